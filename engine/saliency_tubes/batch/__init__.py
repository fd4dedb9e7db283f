"""`tubes batch`: many clips, one model, in a folder that says what is done and from where to go on.

sources, lists   what is named on the command line -> clips, and rows that name none
plan             clips and labels -> jobs with a folder each
results          the record of what is done: results.jsonl
run              the jobs, one after another, recorded
gallery          the record -> index.html
"""
