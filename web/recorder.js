// Records translations as a film: WebM, or MP4 where a browser writes only that.

const RECORDED_TYPES = ["video/webm;codecs=vp8", "video/webm", "video/mp4"];
const BITS_PER_PIXEL = 40; // in a second

/** The type of film that this browser writes, or undefined if it writes none. */
export function recordedType() {
  if (!self.MediaRecorder || !HTMLCanvasElement.prototype.captureStream) return undefined;
  return RECORDED_TYPES.find(type => MediaRecorder.isTypeSupported(type));
}

export class Recorder {
  /** Begins a film of this size; isPair: with the input next to the translation. */
  constructor(type, height, width, isPair) {
    this.isPair = isPair;
    this.frames = 0;
    this.begin = performance.now();
    this.canvas = document.createElement("canvas");
    this.canvas.width = isPair ? 2 * width : width;
    this.canvas.height = height;
    this.context = this.canvas.getContext("2d", {alpha: false});
    this.chunks = [];
    const {canvas} = this;
    const videoBitsPerSecond = Math.max(1e6, BITS_PER_PIXEL * canvas.height * canvas.width);
    this.recorder = new MediaRecorder(canvas.captureStream(), {mimeType: type, videoBitsPerSecond});
    this.recorder.ondataavailable = ({data}) => this.chunks.push(data);
    this.recorder.start(1000);
  }

  /** Adds a frame: canvases, one next to the other. */
  add(canvases) {
    const {canvas, context} = this;
    const width = canvas.width / canvases.length;
    canvases.forEach((each, i) => context.drawImage(each, i * width, 0, width, canvas.height));
    this.frames++;
  }

  setPaused(on) {
    if (on) this.recorder.pause();
    else this.recorder.resume();
  }

  /** Ends the film. Gives {film, extension, frames}. */
  async end() {
    const {recorder} = this;
    if (recorder.state !== "inactive") {
      const stopped = new Promise(done => (recorder.onstop = done));
      recorder.stop();
      await stopped;
    }
    for (const track of recorder.stream.getTracks()) track.stop();
    const type = recorder.mimeType.split(";")[0];
    return {film: new Blob(this.chunks, {type}), extension: type.split("/")[1], frames: this.frames};
  }
}
