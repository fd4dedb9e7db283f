// The page's state, in one place. `set` changes it; who listens to a changed key is called once before the next paint.

function makeStore(initial) {
  const state = { ...initial };
  const listeners = [];
  let changed = new Set();
  const flush = () => {
    const keys = changed;
    changed = new Set();
    for (const { wanted, listener } of listeners) if (wanted.some((key) => keys.has(key))) listener(state);
  };
  return {
    state,
    set(patch) {
      const waiting = changed.size > 0;
      for (const [key, value] of Object.entries(patch)) {
        if (Object.is(state[key], value)) continue;
        state[key] = value;
        changed.add(key);
      }
      if (!waiting && changed.size > 0) requestAnimationFrame(flush);
    },
    // Call `listener` now, and whenever one of the wanted keys has changed.
    on(wanted, listener) {
      listeners.push({ wanted, listener });
      listener(state);
    },
  };
}

const store = makeStore({
  picture: 0, // which picture of the clip is shown
  shownFrames: 0, // counts the video's frames as they arrive, so that whoever draws them draws again
  playing: false,
  playable: true, // false where the browser cannot decode the clip
  label: 0, // the place in report.labels
  field: null, // that label's tube
  common: false, // whether all labels are shown on one scale
  mode: "heatmap",
  opacity: report.opacity,
  threshold: report.threshold,
  colormap: report.colormap,
  level: report.threshold >= 0.1 ? Math.min(report.threshold, 0.95) : 0.5, // of the 3-D view's surface
  yaw: 0.72, // of the 3-D view, radians
  pitch: 0.3,
  speed: 1,
  loop: true,
});

let labelAskedFor = 0;

async function selectLabel(which) {
  labelAskedFor = which;
  try {
    const field = await fieldOf(which);
    if (labelAskedFor === which) store.set({ label: which, field }); // not where another was asked for meanwhile
  } catch (error) {
    const trouble = document.getElementById("trouble");
    trouble.textContent = `The tube cannot be unpacked in this browser: ${error.message}. A current one can.`;
    trouble.hidden = false;
  }
}
