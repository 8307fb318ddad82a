// Runs the network, away from the page: LiteRT.js stands above this in the worker's source, and its WebAssembly glue
// above that, since Firefox does not let a worker import a blob. Messages in: {start}, then {image, id}.
let model,
  settings,
  newest = 0;

/** RGB of one window => RGB of its translation. */
async function run(pixels) {
  const input = new Tensor(pixels, [1, ...settings.size, 3]);
  const [output] = await model.run(input);
  const data = (await output.data()).slice();
  input.delete();
  output.delete();
  return data;
}

/** Firefox sometimes hangs where a worker starts a worker: the page starts the threads, and a port leads to each. */
class Thread {
  constructor() {
    const {port1, port2} = new MessageChannel();
    this.port = port1;
    postMessage({thread: port2}, [port2]);
  }

  postMessage(message) {
    this.port.postMessage(message);
  }

  set onmessage(listener) {
    this.port.onmessage = listener;
  }
}

/** Starts on "wasm" or "webgpu", and compares the translation of `check.input` with Python's, `check.output`. */
async function start({wasm, file, accelerator, check}) {
  self.Module = {wasmBinary: wasm, mainScriptUrlOrBlob: "thread", printErr: () => {}};
  self.Worker = Thread;
  self.importScripts = () => {};
  if (accelerator === "wasm") Environment.create = async () => new Environment({webGpuDevice: null}); // no GPU
  await loadLiteRt("above.js");
  if (accelerator === "webgpu" && !getWebGpuDevice()) throw new Error("no GPU");
  model = await loadAndCompile(file, {accelerator});
  if (accelerator === "webgpu" && !model.isFullyAccelerated) throw new Error("not all of the network runs on the GPU");
  const output = await run(check.input);
  let sum = 0;
  let most = 0;
  for (let i = 0; i < output.length; i++) {
    const difference = Math.abs(output[i] - check.output[i]);
    sum += difference;
    most = Math.max(most, difference);
  }
  const times = [];
  while (times.length < 3) {
    const begin = performance.now();
    await run(check.input);
    times.push(performance.now() - begin);
    if (times[0] > 2000) break;
  }
  return {mean: sum / output.length, most, milliseconds: Math.min(...times)};
}

const breath = () => new Promise(done => setTimeout(done)); // lets messages in

async function answer(data) {
  try {
    if (data.start) {
      settings = data.start.settings;
      return postMessage({ready: await start(data.start)});
    }
    const {id, image} = data;
    const begin = performance.now();
    const report = async (done, total) => {
      postMessage({id, done, total});
      await breath();
      return newest === id;
    };
    const output = await translateWindows(run, image, settings.size, settings.overlap, report);
    if (output) postMessage({id, output, milliseconds: performance.now() - begin}, [output.data.buffer]);
  } catch (error) {
    postMessage({error: String(error?.message ?? error), id: data.id});
  }
}

let turn = Promise.resolve();
onmessage = ({data}) => {
  newest = data.id ?? 0;
  turn = turn.then(() => answer(data));
};
