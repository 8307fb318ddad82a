// The page: connects the drawing, the network and the controls.
import {
  MOST_PIXELS,
  crop,
  download,
  grab,
  join,
  middle,
  readCanvas,
  readFile,
  readUrl,
  resize,
  showImage,
  toGrey,
} from "./images.js";
import {Drawing} from "./drawing.js";
import {cutWindow} from "./windows.js";
import {Translator} from "./translator.js";

const page = settings(),
  [height, width] = page.size,
  [shownHeight, shownWidth] = page.shown;
const isPhoto = page.kind === "photo",
  isSquashed = shownWidth !== width;
const widest = Math.round(Math.min(height, width) / 6);
const $ = id => document.getElementById(id);
const tools = {labels: ["rect", "brush", "line", "fill", "eraser"], lines: ["brush", "eraser"], photo: []}[page.kind];

// ------------------------------------------------------------------------------------------- drawing and translation

const drawing = new Drawing($("input"), {
  paper: page.paper ?? "#ffffff",
  crisp: page.kind === "labels",
  onchange: changed,
});
const translator = new Translator(page, {
  onresult: showResult,
  onwindow: showWindow,
  onerror: message => say(`The network failed: ${message}`, true),
});
let result = null; // {output, input}: the newest translation

function changed() {
  $("undo-button").disabled = !drawing.done.length && !drawing.stroke;
  $("redo-button").disabled = !drawing.undone.length;
  frame($("input-frame"), drawing.canvas);
  if ($("live").checked) translate();
}

const translate = () => translator.translate(readCanvas(drawing.canvas));

/** A frame takes the shape of its canvas, or that to which test mode stretches images. */
function frame(element, canvas) {
  const aspect = isSquashed ? shownWidth / shownHeight : canvas.width / canvas.height;
  element.style.setProperty("--aspect", aspect.toFixed(4));
}

function showResult({output, input, milliseconds}) {
  const first = !result;
  result = {output, input};
  showImage($("output"), output);
  if (!$("before").hidden) showImage($("before"), input);
  frame($("output-frame"), output);
  $("windows").hidden = true;
  $("output-frame").classList.add("done");
  $("timing").textContent =
    milliseconds < 995 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
  if (first) for (const name of ["compare", "pair", "save"]) $(`${name}-button`).disabled = false;
  document.dispatchEvent(new CustomEvent("translated"));
}

function showWindow(done, total) {
  $("windows").hidden = false;
  Object.assign($("windows"), {max: total, value: done});
  $("timing").textContent = `window ${done} of ${total}`;
}

// ------------------------------------------------------------------------------------------------------------ images

/** Puts an image into the drawing: as large as the network takes it or, if the user wants, at its own size. */
function place(image) {
  const larger = image.height > height || image.width > width;
  $("full-label").hidden = !isPhoto || page.anySize || isSquashed || !larger;
  const whole = page.anySize || (isPhoto && !isSquashed && larger && $("full").checked);
  const area = middle(image.height, image.width, shownWidth / shownHeight);
  const fitted = whole ? image : resize(crop(image, area), page.size);
  drawing.replace(page.grey ? toGrey(fitted) : fitted, image);
}

async function open(file) {
  if (!file) return;
  try {
    const image = await readFile(file);
    stopCamera();
    place(image);
    say(image.reduced ? `${file.name} is larger than ${MOST_PIXELS / 1e6} megapixels and was reduced.` : "");
  } catch {
    say(`${file.name || "What was pasted"} is no image that this browser can read: try a JPEG or PNG file.`, true);
  }
}

const named = kind => `${page.name.replace(/[^\p{L}\p{N}._-]+/gu, "-")}-${kind}.png`;
const shaped = image => (isSquashed ? resize(image, page.shown) : image);

function save(both) {
  if (!result) return;
  const output = shaped(result.output);
  download(both ? join([shaped(result.input), output]) : output, named(both ? "pair" : "outputs"));
}

function compare(on = $("split").hidden) {
  if (!result) return;
  for (const id of ["split", "before"]) $(id).hidden = !on;
  $("compare-button").setAttribute("aria-pressed", on);
  if (on) showImage($("before"), result.input);
  slide();
}
const slide = () => $("output-frame").style.setProperty("--split", `${$("split").value}%`);

// ------------------------------------------------------------------------------------------------------------ camera

let stream = null;

async function startCamera() {
  if (!navigator.mediaDevices)
    return say("This browser gives a page no camera here: open it from a file, from localhost or over https.", true);
  try {
    const wanted = {facingMode: "environment", width: {ideal: 1280}};
    stream = await navigator.mediaDevices
      .getUserMedia({video: wanted})
      .catch(() => navigator.mediaDevices.getUserMedia({video: true}));
  } catch (error) {
    const reason =
      error.name === "NotAllowedError"
        ? "it was not allowed"
        : error.name === "NotFoundError"
          ? "none was found"
          : error.message;
    return say(`No camera: ${reason}. Open or drop a photo instead.`, true);
  }
  const video = $("video"),
    before = drawing.pixels();
  video.srcObject = stream;
  await video.play();
  $("camera-button").setAttribute("aria-pressed", "true");
  $("camera-button").lastElementChild.textContent = "Take photo";
  const {x, y, width: w, height: h} = middle(video.videoHeight, video.videoWidth, shownWidth / shownHeight);
  const own = stream;
  (function next() {
    if (stream !== own) return;
    if (!translator.busy) {
      const image = grab(video, {width, height}, {x, y, width: w, height: h});
      showImage(drawing.canvas, page.grey ? toGrey(image) : image);
      changed();
    }
    requestAnimationFrame(next);
  })();
  startCamera.before = before;
}

/** Ends the camera; its last frame becomes the photo, if it is to be kept. */
function stopCamera(keep = false) {
  if (!stream) return;
  const video = $("video"),
    size = {width: video.videoWidth, height: video.videoHeight};
  const photo = keep && grab(video, size, {x: 0, y: 0, ...size});
  for (const track of stream.getTracks()) track.stop();
  stream = null;
  video.srcObject = null;
  $("camera-button").setAttribute("aria-pressed", "false");
  $("camera-button").lastElementChild.textContent = "Camera";
  Object.assign(drawing.canvas, {width: startCamera.before.width, height: startCamera.before.height});
  drawing.context.putImageData(startCamera.before, 0, 0);
  if (photo) place(photo);
  else changed();
}

// ------------------------------------------------------------------------------------------------- pointer and cursor

const position = event => {
  const box = drawing.canvas.getBoundingClientRect();
  return [
    ((event.clientX - box.left) * drawing.canvas.width) / box.width,
    ((event.clientY - box.top) * drawing.canvas.height) / box.height,
  ];
};
const pressure = event => {
  if (event.pointerType !== "pen") return 1;
  $("pressure-label").hidden = false;
  return $("pressure").checked ? 0.3 + 1.4 * event.pressure : 1;
};
let pointer = null;

if (!isPhoto) {
  drawing.canvas.addEventListener("pointerdown", event => {
    if (event.button || pointer !== null) return;
    event.preventDefault();
    drawing.canvas.focus({preventScroll: true});
    drawing.canvas.setPointerCapture(event.pointerId);
    pointer = event.pointerId;
    drawing.begin(...position(event), pressure(event));
  });
  drawing.canvas.addEventListener("pointermove", event => {
    if (event.pointerId !== pointer) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length ? events : [event]) drawing.move(...position(each), pressure(each));
  });
  for (const type of ["pointerup", "pointercancel"])
    drawing.canvas.addEventListener(type, event => {
      if (event.pointerId !== pointer) return;
      pointer = null;
      drawing.end();
    });
  const cursor = {x: width / 2, y: height / 2};
  const showCursor = on => {
    $("cursor").hidden = !on;
    $("cursor").style.left = `${(100 * cursor.x) / width}%`;
    $("cursor").style.top = `${(100 * cursor.y) / height}%`;
  };
  drawing.canvas.addEventListener("keydown", event => {
    const step = event.shiftKey ? 1 : 8;
    const way = {ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step]}[event.key];
    if (way) {
      cursor.x = Math.max(0, Math.min(width, cursor.x + way[0]));
      cursor.y = Math.max(0, Math.min(height, cursor.y + way[1]));
      drawing.move(cursor.x, cursor.y);
    } else if (event.key === " ") {
      if (drawing.stroke) drawing.end();
      else drawing.begin(cursor.x, cursor.y);
    } else return;
    event.preventDefault();
    showCursor(true);
  });
  drawing.canvas.addEventListener("blur", () => {
    showCursor(false);
    drawing.end();
  });
}

// ---------------------------------------------------------------------------------------------------------- controls

function pickTool(name) {
  if (!tools.includes(name)) return;
  drawing.tool = name;
  for (const button of document.querySelectorAll("[data-tool]"))
    button.setAttribute("aria-pressed", button.dataset.tool === name);
}

function pickColour(colour) {
  drawing.colour = colour;
  for (const button of $("palette").children) button.setAttribute("aria-pressed", button.dataset.colour === colour);
  if (drawing.tool === "eraser") pickTool("brush");
  $("dot").style.background = colour;
}

function setWidth(value) {
  drawing.width = Math.max(1, Math.min(widest, Math.round(value)));
  $("width").value = drawing.width;
  $("dot").style.setProperty("--size", `${2 + (18 * drawing.width) / widest}px`);
}

function setLive(on) {
  $("live").checked = on;
  $("translate-button").hidden = on;
  if (on) translate();
}

function setFull(on) {
  if ($("full-label").hidden) return;
  $("full").checked = on;
  if (drawing.source) place(drawing.source);
}

const toggleCamera = () => (stream ? stopCamera(true) : startCamera());
const help = () => ($("help-dialog").open ? $("help-dialog").close() : $("help-dialog").showModal());

const shortcuts = [
  // [key, what the help calls it, what it does, shown where]; Control or Command: "^"
  ["r", "Rectangle", () => pickTool("rect"), "labels"],
  ["b", page.kind === "lines" ? "Pen" : "Brush", () => pickTool("brush"), "labels lines"],
  ["l", "Line", () => pickTool("line"), "labels"],
  ["f", "Fill", () => pickTool("fill"), "labels"],
  ["e", "Eraser", () => pickTool("eraser"), "labels lines"],
  ["[", "Thinner", () => setWidth(drawing.width - Math.ceil(widest / 20)), "labels lines"],
  ["]", "Wider", () => setWidth(drawing.width + Math.ceil(widest / 20)), "labels lines"],
  ["o", "Open an image", () => $("file").click()],
  ["c", "Camera", toggleCamera, "photo"],
  ["w", "Photo at full size", () => setFull(!$("full").checked), page.anySize || isSquashed ? "" : "photo"],
  ["^z", "Undo", () => drawing.undo()],
  ["^y", "Redo", () => drawing.redo()],
  ["Delete", "Clear", () => drawing.clear(), "labels lines"],
  ["Enter", "Translate", translate],
  ["t", "Live: translate while drawing", () => setLive(!$("live").checked)],
  ["x", "Before and after", () => compare()],
  ["s", "Save the translation", () => save(false)],
  ["S", "Save both, side by side", () => save(true)],
  ["?", "This help", help],
].filter(([, , , kinds]) => kinds === undefined || kinds.includes(page.kind));

addEventListener("keydown", event => {
  if (event.altKey || ($("help-dialog").open && event.key !== "?")) return;
  const control = event.ctrlKey || event.metaKey,
    typed = event.key.length === 1 && !event.shiftKey ? event.key.toLowerCase() : event.key;
  const again = control && event.shiftKey && typed.toLowerCase() === "z";
  const key = again ? "^y" : control ? `^${typed.toLowerCase()}` : typed === "Backspace" ? "Delete" : typed;
  if (key === "Escape") return stopCamera();
  if (key === "Enter" && event.target.closest?.("button, summary")) return;
  const shortcut = shortcuts.find(([name]) => name === key);
  const colour = !control && /^[1-9]$/.test(key) && $("palette").children[key - 1];
  if (!shortcut && !colour) return;
  event.preventDefault();
  if (colour) colour.click();
  else shortcut[2]();
});

document.body.dataset.kind = page.kind;
for (const button of document.querySelectorAll("[data-tool]")) {
  button.hidden = !tools.includes(button.dataset.tool);
  button.onclick = () => pickTool(button.dataset.tool);
}
if (page.kind === "lines") {
  const button = document.querySelector("[data-tool=brush]");
  Object.assign(button, {ariaLabel: "Pen", title: "Pen (B)"});
  button.querySelector("use").setAttribute("href", "#pen");
}
for (const [colour, name] of page.palette ?? []) {
  const button = document.createElement("button"),
    swatch = document.createElement("i");
  Object.assign(button, {type: "button", className: "colour", onclick: () => pickColour(colour)});
  swatch.style.background = button.dataset.colour = colour;
  button.append(swatch, name);
  $("palette").append(button);
}
for (const [key, name] of shortcuts) {
  const term = document.createElement("dt"),
    meaning = document.createElement("dd");
  for (const part of key === "S"
    ? ["Shift", "S"]
    : key[0] === "^"
      ? ["Ctrl", key[1].toUpperCase()]
      : [key.length === 1 ? key.toUpperCase() : key])
    term.append(Object.assign(document.createElement("kbd"), {textContent: part}));
  meaning.textContent = name;
  $("shortcuts").append(term, meaning);
}
if (page.palette) {
  const term = document.createElement("dt"),
    meaning = document.createElement("dd");
  term.append(
    ...["1", "–", "9"].map(text =>
      text === "–" ? text : Object.assign(document.createElement("kbd"), {textContent: text}),
    ),
  );
  meaning.textContent = "Colour";
  $("shortcuts").append(term, meaning);
}
if (!isPhoto) {
  const term = document.createElement("dt"),
    meaning = document.createElement("dd");
  term.append(
    Object.assign(document.createElement("kbd"), {textContent: "Arrows"}),
    Object.assign(document.createElement("kbd"), {textContent: "Space"}),
  );
  meaning.textContent = "In the drawing: move the cursor, begin and end a stroke";
  $("shortcuts").append(term, meaning);
}

$("undo-button").onclick = () => drawing.undo();
$("redo-button").onclick = () => drawing.redo();
$("clear-button").onclick = () => drawing.clear();
$("width").oninput = () => setWidth(+$("width").value);
$("open-button").onclick = () => $("file").click();
$("camera-button").onclick = toggleCamera;
$("full").onchange = () => setFull($("full").checked);
$("live").onchange = () => setLive($("live").checked);
$("translate-button").onclick = translate;
$("compare-button").onclick = () => compare();
$("split").oninput = slide;
$("save-button").onclick = () => save(false);
$("pair-button").onclick = () => save(true);
$("help-button").onclick = help;
$("file").onchange = () => {
  open($("file").files[0]);
  $("file").value = "";
};
addEventListener("dragover", event => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
for (const type of ["dragleave", "drop"])
  addEventListener(type, event => {
    event.preventDefault();
    if (type === "drop" || !event.relatedTarget) document.body.classList.remove("dropping");
    if (type === "drop") open(event.dataTransfer.files[0]);
  });
addEventListener("paste", event => {
  const file = [...event.clipboardData.files].find(each => each.type.startsWith("image/"));
  if (file) open(file);
});

// -------------------------------------------------------------------------------------------------------------- start

async function begin() {
  const letters = {AtoB: "A to B", BtoA: "B to A"}[page.direction] ?? page.direction;
  document.title = $("title").textContent = page.name;
  $("subtitle").textContent =
    `${{labels: "Draw with labels", lines: "Draw lines", photo: "Bring a photo"}[page.kind]}, and see it translated`;
  Object.assign(drawing.canvas, {width, height});
  Object.assign($("output"), {width, height});
  drawing.canvas.getContext("2d").fillStyle = drawing.paper;
  drawing.canvas.getContext("2d").fillRect(0, 0, width, height);
  if (isPhoto) drawing.canvas.setAttribute("aria-label", "Photo");
  if (isPhoto && innerWidth > 720) $("palette").after($("examples"));
  for (const element of ["input-frame", "output-frame"]) frame($(element), drawing.canvas);
  $("width").max = widest;
  setWidth(widest / {labels: 4, lines: 21, photo: 4}[page.kind]);
  pickTool(tools[0]);
  const colours = (page.palette ?? []).map(([colour]) => colour).filter(colour => colour !== page.paper);
  pickColour(colours[1] ?? colours[0] ?? page.ink ?? "#000000");
  const examples = await Promise.all(page.examples.map(readUrl));
  examples.forEach((image, index) => {
    const button = document.createElement("button"),
      thumbnail = document.createElement("canvas");
    const small = shaped(image),
      scale = Math.min(1, 160 / Math.min(small.width, small.height));
    showImage(thumbnail, resize(small, [Math.round(small.height * scale), Math.round(small.width * scale)]));
    Object.assign(button, {
      type: "button",
      className: "example",
      ariaLabel: `Example ${index + 1}`,
      onclick: () => {
        stopCamera();
        showExample(image);
      },
    });
    button.append(thumbnail);
    $("examples").append(button);
  });
  const output = await readUrl(page.check);
  showExample(examples[0]);
  drawing.done = []; // nothing to undo yet
  changed();
  const check = {input: cutWindow(examples[0], 0, 0, height, width).data, output: output.data};
  const measured = await translator.start(check);
  showProgress(100);
  $("progress").classList.add("done");
  const tolerance = page.difference + 0.5,
    apart = `${measured.mean.toFixed(2)} of 255 levels`;
  if (measured.mean <= tolerance)
    say(`Ready. Checked: the first example comes out as in Python, ${apart} apart on average.`);
  else
    say(
      `This browser's translations differ from Python's by ${apart} on average: do not trust them.`,
      true,
    );
  const about = place =>
    ($("about").textContent = `${page.algorithm}, ${letters} · ${page.weights} weights · ${place}`);
  about(self.crossOriginIsolated ? "CPU, all cores" : "CPU");
  document.body.dataset.ready = "cpu";
  translator.next();
  const gpu = await translator.tryGpu(measured, tolerance);
  if (gpu) about("GPU");
  document.body.dataset.ready = gpu ? "gpu" : "cpu-alone";
}

/** An example has the size that the network takes, or any if that is what it takes. */
function showExample(image) {
  $("full-label").hidden = true;
  drawing.replace(image, null);
}

begin().catch(error =>
  say(`The page cannot start: ${error.message}. Try a current Chrome, Edge, Firefox or Safari.`, true),
);
