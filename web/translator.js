// The network in a worker: starts it, gives it the newest image, and takes a GPU when that is right and faster.

const RELAXED_SIMD = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15,
  253, 128, 2, 11,
]);

function decode(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const text = atob(base64);
  const data = new Uint8Array(text.length);
  for (let i = 0; i < data.length; i++) data[i] = text.charCodeAt(i);
  return data;
}

/** The bytes of a part of the page, which is gzip in base64. */
async function unpack(name) {
  const chunks = parts[name].map(decode);
  delete parts[name];
  const stream = new Blob(chunks).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Above the glue in a thread: its messages come through the port that its first message brings.
const THREAD = `addEventListener("message", event => {
  const port = event.data;
  event.stopImmediatePropagation();
  self.postMessage = message => port.postMessage(message);
  port.onmessage = event => self.onmessage(event);
}, {once: true});
`;

function startWorker(source, name) {
  return new Worker(URL.createObjectURL(new Blob(source, {type: "text/javascript"})), {name});
}

/** A worker that runs the network on "wasm" or "webgpu". `ready` becomes what its self-check measured. */
class Engine {
  constructor(accelerator, {glue, source, wasm, model}, settings, check) {
    this.accelerator = accelerator;
    this.worker = startWorker([glue, "\n", source], "network");
    this.threads = [];
    this.ready = new Promise((resolve, reject) => {
      this.worker.onmessage = ({data}) => {
        if (data.thread) return this.thread(data.thread, glue);
        if (data.ready) resolve(data.ready);
        else if (data.error && data.id === undefined) reject(new Error(data.error));
        else this.onmessage(data);
      };
      this.worker.onerror = event => {
        event.preventDefault();
        reject(new Error(event.message ?? "the worker does not start"));
      };
    });
    const start = {settings, accelerator, check, file: model.slice(), wasm: wasm.slice()};
    this.worker.postMessage({start}, [start.file.buffer, start.wasm.buffer]);
  }

  thread(port, glue) {
    const worker = startWorker([THREAD, glue], "em-pthread");
    worker.onerror = this.worker.onerror;
    worker.postMessage(port, [port]);
    this.threads.push(worker);
  }

  end() {
    for (const worker of [this.worker, ...this.threads]) worker.terminate();
  }
}

/** Why a GPU is not taken, by what its self-check and the CPU's measured; null: it is. */
function whyNot(gpu, cpu, tolerance) {
  if (gpu.error) return String(gpu.error);
  if (gpu.mean > tolerance) return `${gpu.mean.toFixed(2)} of 255 levels off`;
  if (gpu.milliseconds > 0.8 * cpu.milliseconds)
    return `it needs ${gpu.milliseconds.toFixed(0)} ms, the CPU ${cpu.milliseconds.toFixed(0)}`;
  return null;
}

export class Translator {
  /** onresult({output, milliseconds}), onwindow(done, total) and onerror(message) are called for each image. */
  constructor(settings, {onresult, onwindow, onerror}) {
    Object.assign(this, {settings, onresult, onwindow, onerror});
    this.id = 0;
    this.busy = false;
    this.waiting = null;
    this.sent = 0; // when the newest image was sent
    this.took = 0; // milliseconds for the one before it
  }

  /** Milliseconds until the network is likely to take another image. */
  get remaining() {
    return this.busy ? this.sent + this.took - performance.now() : 0;
  }

  /** Starts on the CPU. check: {input, output}, RGB. Gives what the self-check measured. */
  async start(check) {
    const build = !WebAssembly.validate(RELAXED_SIMD)
      ? "compat"
      : self.crossOriginIsolated && parts["threaded.js"]
        ? "threaded"
        : "plain";
    const [glue, source, wasm, model] = await Promise.all(
      [`${build}.js`, "worker", `${build}.wasm`, "model"].map(unpack),
    );
    this.files = {glue, source, wasm, model};
    this.check = check;
    const engine = new Engine("wasm", this.files, this.settings, check);
    const measured = await engine.ready;
    this.use(engine);
    return measured;
  }

  use(engine) {
    this.engine?.end();
    this.engine = engine;
    engine.onmessage = message => this.receive(message);
  }

  /** Tries the GPU in a worker of its own. Gives its measurement if it has been taken, else null. */
  async tryGpu(measured, tolerance) {
    const {files} = this;
    this.files = null; // they are large
    if (!(await navigator.gpu?.requestAdapter().catch(() => null))) return null;
    const engine = new Engine("webgpu", files, this.settings, this.check);
    const gpu = await engine.ready.catch(error => ({error}));
    const objection = whyNot(gpu, measured, tolerance);
    if (objection) {
      console.info(`The GPU is not taken: ${objection}.`);
      engine.end();
      return null;
    }
    this.use(engine);
    if (this.busy) this.send(this.current);
    return gpu;
  }

  /** Translates an image, {height, width, data}. While one is in the network, only the newest waits. */
  translate(image) {
    this.waiting = image;
    if (!this.busy || this.current.height * this.current.width > this.settings.size[0] * this.settings.size[1])
      this.next();
  }

  next() {
    if (!this.waiting || !this.engine) return;
    const image = this.waiting;
    this.waiting = null;
    this.send(image);
  }

  send(image) {
    this.busy = true;
    this.current = image;
    this.sent = performance.now();
    this.engine.worker.postMessage({id: ++this.id, image});
  }

  receive({id, output, milliseconds, done, total, error}) {
    if (id !== this.id) return; // of an image that a newer one has replaced
    if (done) return this.onwindow(done, total);
    const input = this.current;
    this.busy = false;
    this.took = performance.now() - this.sent;
    this.next(); // before this one is shown, so that the network does not wait for that
    if (error) this.onerror(error);
    else this.onresult({output, milliseconds, input});
  }
}
