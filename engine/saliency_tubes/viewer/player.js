// The clip's video: playing, seeking, and which picture its own clock says is shown.

const video = document.getElementById("video");
const { times } = report;
const lastPicture = pictureCount - 1;
const gaps = times.slice(1).map((time, i) => time - times[i]);
const usualGap = gaps.length ? [...gaps].sort((a, b) => a - b)[gaps.length >> 1] : 1 / 25;
const clipSeconds = times[lastPicture] + (gaps.length ? usualGap : 1);

// The picture that is shown at `seconds`; a little slack, since containers round their times.
function pictureAt(seconds) {
  const slack = Math.min(1e-3, usualGap / 4);
  let [low, high] = [0, lastPicture];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (times[middle] <= seconds + slack) low = middle;
    else high = middle - 1;
  }
  return low;
}

const player = (() => {
  let wanted = null; // the picture a seek is on its way to

  // Aim between this picture's time and the next one's: at the time itself, rounding may show the one before.
  const aim = (picture) => {
    const gap = picture < lastPicture ? gaps[picture] : usualGap;
    const end = Number.isFinite(video.duration) ? Math.max(0, video.duration - 1e-3) : Infinity;
    return Math.min(times[picture] + Math.min(gap / 2, 0.05), end);
  };

  const shown = (seconds) => {
    if (wanted === null) store.set({ picture: pictureAt(seconds), shownFrames: store.state.shownFrames + 1 });
  };

  function seek(picture) {
    const target = Math.min(lastPicture, Math.max(0, Math.round(picture)));
    if (!store.state.playable || video.readyState === 0) {
      store.set({ picture: target });
      return;
    }
    const busy = wanted !== null;
    wanted = target;
    if (!busy) video.currentTime = aim(target);
  }

  video.addEventListener("seeked", () => {
    if (wanted !== null && pictureAt(video.currentTime) !== wanted) {
      video.currentTime = aim(wanted); // another picture was asked for meanwhile
      return;
    }
    wanted = null;
    shown(video.currentTime);
  });

  if ("requestVideoFrameCallback" in video) {
    const onFrame = (_now, { mediaTime }) => {
      shown(mediaTime);
      video.requestVideoFrameCallback(onFrame);
    };
    video.requestVideoFrameCallback(onFrame);
  } else {
    const onPaint = () => {
      if (!video.paused) shown(video.currentTime);
      requestAnimationFrame(onPaint);
    };
    requestAnimationFrame(onPaint);
  }

  video.addEventListener("loadeddata", () => {
    if (store.state.picture === 0) shown(0);
    else seek(store.state.picture);
  });
  video.addEventListener("play", () => store.set({ playing: true }));
  video.addEventListener("pause", () => store.set({ playing: false }));
  video.addEventListener("ended", () => store.set({ playing: false }));
  video.addEventListener("error", () => store.set({ playable: false, playing: false }));
  video.src = URL.createObjectURL(new Blob([bytesOf(report.video)], { type: "video/mp4" }));

  store.on(["speed", "loop"], ({ speed, loop }) => {
    video.playbackRate = speed;
    video.loop = loop;
  });

  return {
    seek,
    step: (by) => seek((wanted ?? store.state.picture) + by),
    toggle() {
      if (!store.state.playable) return;
      if (!video.paused) video.pause();
      else video.play().catch(() => store.set({ playing: false })); // interrupted, or refused by the browser
    },
  };
})();
