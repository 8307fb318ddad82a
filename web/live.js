// A camera or a film in the page's <video>, frame after frame, and how many of them are translated.

/** The camera at the back of a phone, else any; about `width` pixels wide, since every pixel of a frame takes time. */
export async function openCamera(width) {
  const wanted = {facingMode: "environment", width: {ideal: width}, frameRate: {ideal: 30}};
  try {
    return await navigator.mediaDevices.getUserMedia({video: wanted});
  } catch (error) {
    if (error.name === "NotAllowedError") throw error;
    return navigator.mediaDevices.getUserMedia({video: true});
  }
}

export function whyNoCamera(error) {
  if (error.name === "NotAllowedError") return "it was not allowed";
  if (error.name === "NotFoundError") return "none was found";
  if (error.name === "NotReadableError") return "it does not start, perhaps since another program uses it";
  return error.message;
}

/** Whether a file is a film, as far as its type or name says. */
export function isFilm(file) {
  return file.type.startsWith("video/") || /\.(mp4|m4v|mov|webm|mkv|avi|ogv)$/i.test(file.name);
}

/** Becomes true when the first frame is there, false when the browser cannot show one. */
function hasFrames(video) {
  return new Promise(resolve => {
    video.onloadeddata = () => resolve(video.videoWidth > 0);
    video.onerror = () => resolve(false);
  });
}

/** Calls back once, when the video has a new frame; where a browser cannot tell, when the screen is drawn anew. */
function atNextFrame(video, callback) {
  if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(callback);
  else requestAnimationFrame(callback);
}

export class Source {
  /**
   * {stream} of a camera or {file}, a film. onframe() is called for every new frame, onfail() when no more come, and
   * onstop() when a film is at its end.
   */
  constructor(video, {stream = null, file = null, onframe, onfail, onstop}) {
    Object.assign(this, {video, stream, file, onframe, onfail, onstop});
    this.came = 0; // frames
    this.translated = 0;
    this.times = []; // of the newest translations
    this.hasEnded = false;
  }

  /** Shows its first frame, and plays unless it is to stand still. Gives false if there is no frame to show. */
  async start(isStill) {
    const {video, stream, file} = this;
    if (stream) video.srcObject = stream;
    else video.src = URL.createObjectURL(file);
    if (!(await hasFrames(video)) || this.hasEnded) return false;
    video.onerror = this.onfail;
    video.onended = this.onstop;
    video.onseeked = this.onframe; // Firefox tells of no new frame while the film stands still
    for (const track of stream?.getTracks() ?? []) track.onended = this.onfail;
    this.onframe();
    this.watch();
    if (!isStill) video.play().catch(this.onstop); // a phone that saves power may refuse
    return true;
  }

  watch() {
    let presented = null;
    const next = (time, metadata) => {
      if (this.hasEnded) return;
      const newest = metadata?.presentedFrames ?? this.came + 1;
      this.came += presented === null ? 1 : Math.max(0, newest - presented);
      presented = newest;
      this.onframe();
      atNextFrame(this.video, next);
    };
    atNextFrame(this.video, next);
  }

  /** Counts a translation. */
  count() {
    this.translated++;
    this.times.push(performance.now());
    while (this.times.length > 2 && this.times.at(-1) - this.times[0] > 3000) this.times.shift();
  }

  /** Translations a second, over the last 3 seconds. */
  get rate() {
    const seconds = (this.times.at(-1) - this.times[0]) / 1000;
    return seconds > 0 ? (this.times.length - 1) / seconds : 0;
  }

  get dropped() {
    return Math.max(0, this.came - this.translated);
  }

  end() {
    const {video} = this;
    this.hasEnded = true;
    for (const track of this.stream?.getTracks() ?? []) {
      track.onended = null;
      track.stop();
    }
    video.onerror = video.onended = video.onseeked = null;
    video.pause();
    video.srcObject = null;
    if (this.file) URL.revokeObjectURL(video.src);
    video.removeAttribute("src");
    video.load();
  }
}
