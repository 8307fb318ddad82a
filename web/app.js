// The page: connects the drawing, the network and the controls.
import {
  MOST_PIXELS,
  crop,
  download,
  giveFile,
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
import {Player} from "./strokes.js";
import {Source, isFilm, openCamera, whyNoCamera} from "./live.js";
import {Recorder, recordedType} from "./recorder.js";
import {cutWindow} from "./windows.js";
import {Translator} from "./translator.js";

const page = settings();
const [height, width] = page.size;
const [shownHeight, shownWidth] = page.shown;
const isPhoto = page.kind === "photo";
const isSquashed = shownWidth !== width;
const widest = Math.round(Math.min(height, width) / 6);
const linesWidth = Math.max(1, Math.round(Math.min(height, width) / 100));
const colourWidth = 5 * linesWidth;
const $ = id => document.getElementById(id);
const toolsOfKind = {
  labels: ["rect", "brush", "line", "fill", "eraser"],
  lines: ["brush", "eraser"],
  photo: [],
};
const tools = toolsOfKind[page.kind];

// ------------------------------------------------------------------------------------------- drawing and translation

const drawing = new Drawing($("input"), {
  paper: page.paper ?? "#ffffff",
  ink: page.kind === "lines" ? page.ink : null,
  crisp: page.kind === "labels",
  onchange: changed,
});
const translator = new Translator(page, {
  onresult: showResult,
  onwindow: showWindow,
  onerror: message => say(`The network failed: ${message}`, true),
});
const player = new Player(drawing, {size: page.drawn, colour: page.ink, width: linesWidth});
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
  const isFirst = !result;
  result = {output, input};
  showImage($("output"), output);
  if (!$("before").hidden || recorder?.isPair) showImage($("before"), input);
  frame($("output-frame"), output);
  $("windows").hidden = true;
  $("output-frame").classList.add("done");
  if (source) source.count();
  else showTiming(milliseconds);
  recorder?.add(recorder.isPair ? [$("before"), $("output")] : [$("output")]);
  if (isFirst) {
    for (const name of ["compare", "pair", "save"]) $(`${name}-button`).disabled = false;
  }
  document.dispatchEvent(new CustomEvent("translated", {detail: milliseconds}));
}

function showTiming(milliseconds) {
  $("timing").textContent =
    milliseconds < 995 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
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
  if (isFilm(file)) return startFilm(file);
  try {
    const image = await readFile(file);
    stopDrawing();
    place(image);
    say(image.reduced ? `${file.name} is larger than ${MOST_PIXELS / 1e6} megapixels and was reduced.` : "");
  } catch {
    say(`${file.name || "What was pasted"} is no image that this browser can read: try a JPEG or PNG file.`, true);
  }
}

const named = (kind, extension = "png") => `${page.name.replace(/[^\p{L}\p{N}._-]+/gu, "-")}-${kind}.${extension}`;
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

// --------------------------------------------------------------------------------------------------- camera and film

let source = null; // the camera or film that is running
let isAsking = false; // whether the browser asks for the camera
let pixelsBefore = null; // what the canvas showed before it
const SOON = 70; // milliseconds: two frames of a camera
let clock = null; // shows the counts twice a second

async function startCamera() {
  if (!navigator.mediaDevices)
    return say("This browser gives a page no camera here: open it from a file, from localhost or over https.", true);
  if (isAsking) return;
  isAsking = true;
  say("Waiting for the camera: the browser may ask whether this page may use it.");
  try {
    const wanted = page.anySize || $("full").checked ? 1280 : Math.max(640, 2.5 * width);
    await startLive({stream: await openCamera(wanted)});
  } catch (error) {
    say(`No camera: ${whyNoCamera(error)}. Open or drop a photo instead.`, true);
  } finally {
    isAsking = false;
  }
}

async function startFilm(file) {
  if (!isPhoto) return say("This page takes drawings and images, no films.", true);
  const isStill = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (await startLive({file}, isStill)) return;
  say(`${file.name} is no film that this browser can play: try MP4 (H.264) or WebM.`, true);
}

/** Starts a camera, {stream}, or a film, {file}. Gives false if it has no frames. */
async function startLive(origin, isStill = false) {
  stopDrawing();
  const own = new Source($("video"), {
    ...origin,
    onframe: showFrame,
    onfail: () => endOfFrames(origin.file),
    onstop: showPaused,
  });
  source = own;
  pixelsBefore = drawing.pixels();
  const hasStarted = await own.start(isStill);
  if (source !== own) return true; // ended meanwhile
  if (!hasStarted) {
    stopLive();
    return false;
  }
  own.loops = Boolean(origin.file) && !isStill;
  $("video").loop = own.loops;
  showLive();
  if (origin.stream) say("The camera is on. Frames that come while the network works are dropped.");
  else say(`${origin.file.name}: frames that come while the network works are dropped.`);
  return true;
}

async function endOfFrames(file) {
  await stopLive();
  say(file ? `${file.name} cannot be played on: it is damaged here.` : "The camera was switched off.", true);
}

/** Shows the newest frame and offers it to the network, unless newer ones will come before the network takes one. */
function showFrame() {
  if (translator.remaining > SOON) return;
  const {video} = source;
  const {canvas, context} = drawing;
  const area = middle(video.videoHeight, video.videoWidth, shownWidth / shownHeight);
  if (canvas.width !== width || canvas.height !== height) {
    Object.assign(canvas, {width, height});
    frame($("input-frame"), canvas);
  }
  context.fillStyle = "white"; // under films that are transparent
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "medium";
  context.drawImage(video, area.x, area.y, area.width, area.height, 0, 0, width, height);
  if (page.grey) showImage(canvas, toGrey(readCanvas(canvas)));
  if ($("live").checked) translate();
}

/** Ends camera or film; the last frame becomes the photo, if it is to be kept. Waits until a recording is saved. */
function stopLive(keep = false) {
  if (!source) return undefined;
  const saved = stopRecording();
  const video = $("video");
  const size = {width: video.videoWidth, height: video.videoHeight};
  const photo = keep && grab(video, size);
  source.end();
  source = null;
  showLive();
  Object.assign(drawing.canvas, {width: pixelsBefore.width, height: pixelsBefore.height});
  drawing.context.putImageData(pixelsBefore, 0, 0);
  if (photo) place(photo);
  else changed();
  return saved;
}

/** Shows what camera and film need, or hides it. */
function showLive() {
  const isCamera = Boolean(source?.stream);
  $("camera-button").setAttribute("aria-pressed", isCamera);
  $("camera-button").lastElementChild.textContent = isCamera ? "Take photo" : "Camera";
  $("live-bar").hidden = !source;
  clearInterval(clock);
  if (!source) return;
  clock = setInterval(showCounts, 500);
  const {duration} = $("video");
  $("place").hidden = isCamera || !Number.isFinite(duration);
  if (!$("place").hidden) $("place").max = duration;
  showPaused();
  showCounts();
}

function showCounts() {
  const {rate, translated, dropped} = source;
  $("timing").textContent = `${rate.toFixed(rate < 9.95 ? 1 : 0)} frames/s`;
  $("counts").textContent = `${translated} translated, ${dropped} dropped`;
  if (document.activeElement !== $("place")) $("place").value = $("video").currentTime;
}

function togglePause() {
  if (!source) return;
  const video = $("video");
  if (video.paused) video.play();
  else video.pause();
  showPaused();
}

/** Shows whether the frames stand still; a recording stands still with them, and ends where the film does. */
function showPaused() {
  const video = $("video");
  const name = video.paused ? "Go on" : "Pause";
  Object.assign($("pause-button"), {ariaLabel: name, title: `${name} (P)`});
  $("pause-button").querySelector("use").setAttribute("href", video.paused ? "#play" : "#pause");
  if (video.ended) stopRecording();
  else recorder?.setPaused(video.paused);
}

function seek() {
  $("video").currentTime = $("place").value;
}

// --------------------------------------------------------------------------------------------------------- recording

let recorder = null;

function startRecording() {
  if (!source) return;
  const type = recordedType();
  if (!type) return say("This browser cannot record films: use a current Chrome, Edge, Firefox or Safari.", true);
  const isPair = !$("before").hidden;
  recorder = new Recorder(type, shownHeight, shownWidth, isPair);
  $("video").loop = false;
  if ($("video").ended) togglePause();
  recorder.setPaused($("video").paused);
  $("record-button").setAttribute("aria-pressed", "true");
  say(isPair ? "Recording input and translation, side by side." : "Recording the translation.");
}

async function stopRecording() {
  if (!recorder) return;
  const own = recorder;
  recorder = null;
  $("record-button").setAttribute("aria-pressed", "false");
  if (source) $("video").loop = source.loops;
  const {film, extension, frames} = await own.end();
  if (!frames) return say("No frame was translated while recording: nothing is saved.", true);
  const name = named(own.isPair ? "pair" : "outputs", extension);
  giveFile(film, name);
  say(`${name}: ${frames} frames.`);
}

addEventListener("beforeunload", event => {
  if (recorder) event.preventDefault();
});

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
    player.stop();
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
    const ways = {ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step]};
    const way = ways[event.key];
    if (way) {
      cursor.x = Math.max(0, Math.min(width, cursor.x + way[0]));
      cursor.y = Math.max(0, Math.min(height, cursor.y + way[1]));
      drawing.move(cursor.x, cursor.y);
    } else if (event.key === " ") {
      player.stop();
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
  player.stop();
  drawing.tool = name;
  for (const button of document.querySelectorAll("[data-tool]"))
    button.setAttribute("aria-pressed", button.dataset.tool === name);
}

/** Lines and what colours them have a width each. */
function pickColour(colour) {
  player.stop();
  const wasInk = drawing.colour === page.ink;
  drawing.colour = colour;
  if (page.kind === "lines" && wasInk !== (colour === page.ink)) {
    const {width: chosen} = drawing;
    setWidth(otherWidth);
    otherWidth = chosen;
  }
  for (const button of $("palette").children) button.setAttribute("aria-pressed", button.dataset.colour === colour);
  if (drawing.tool === "eraser") pickTool("brush");
  $("dot").style.background = colour;
}

let otherWidth = colourWidth; // of colours while lines are drawn, and the other way round

function setWidth(value) {
  player.stop();
  drawing.width = Math.max(1, Math.min(widest, Math.round(value)));
  $("width").value = drawing.width;
  $("dot").style.setProperty("--size", `${2 + (18 * drawing.width) / widest}px`);
}

function setMirror(on) {
  player.stop();
  drawing.mirror = on;
  $("mirror-button").setAttribute("aria-pressed", on);
  $("input-frame").classList.toggle("mirrored", on);
}

/** Draws one of the drawings that came with the page, another one than last time. */
function surprise() {
  if (!page.drawings) return;
  const others = page.drawings.filter(each => each !== surprised);
  surprised = others[Math.floor(Math.random() * others.length)];
  stopDrawing();
  drawing.clear();
  player.play(surprised.strokes);
}
let surprised = null;

function stopDrawing() {
  player.stop();
  stopLive();
}

function setLive(on) {
  $("live").checked = on;
  $("translate-button").hidden = on;
  if (on) translate();
}

function setFull(on) {
  if ($("full-label").hidden) return;
  $("full").checked = on;
  if (drawing.source && !source) place(drawing.source);
}

function undo() {
  stopDrawing();
  drawing.undo();
}

function redo() {
  stopDrawing();
  drawing.redo();
}

function clear() {
  stopDrawing();
  drawing.clear();
}

const toggleCamera = () => (source?.stream ? stopLive(true) : startCamera());
const toggleRecording = () => (recorder ? stopRecording() : startRecording());
const help = () => ($("help-dialog").open ? $("help-dialog").close() : $("help-dialog").showModal());

const shortcuts = [
  // [key, what the help calls it, what it does, shown where]; Control or Command: "^"
  ["r", "Rectangle", () => pickTool("rect"), "labels"],
  ["b", page.kind === "lines" ? "Pen" : "Brush", () => pickTool("brush"), "labels lines"],
  ["l", "Line", () => pickTool("line"), "labels"],
  ["f", "Fill", () => pickTool("fill"), "labels"],
  ["e", "Eraser", () => pickTool("eraser"), "labels lines"],
  ["m", "Mirror", () => setMirror(!drawing.mirror), "lines"],
  ["d", "Surprise me", surprise, page.drawings ? "lines" : ""],
  ["[", "Thinner", () => setWidth(drawing.width - Math.ceil(widest / 20)), "labels lines"],
  ["]", "Wider", () => setWidth(drawing.width + Math.ceil(widest / 20)), "labels lines"],
  ["o", isPhoto ? "Open an image or a film" : "Open an image", () => $("file").click()],
  ["c", "Camera, then take the photo", toggleCamera, "photo"],
  ["p", "Pause camera or film, go on", togglePause, "photo"],
  ["r", "Record a film of the translation", toggleRecording, "photo"],
  ["Escape", "End camera or film", stopLive, "photo"],
  ["w", "Photo at full size", () => setFull(!$("full").checked), page.anySize || isSquashed ? "" : "photo"],
  ["^z", "Undo", undo],
  ["^y", "Redo", redo],
  ["Delete", "Clear", clear, "labels lines"],
  ["Enter", "Translate", translate],
  ["t", "Live: translate while drawing", () => setLive(!$("live").checked)],
  ["x", "Before and after", () => compare()],
  ["s", "Save the translation", () => save(false)],
  ["S", "Save both, side by side", () => save(true)],
  ["?", "This help", help],
].filter(([, , , kinds]) => kinds === undefined || kinds.includes(page.kind));

/** The name in `shortcuts` of what was typed. */
function keyOf(event) {
  const isControl = event.ctrlKey || event.metaKey;
  if (isControl && event.shiftKey && event.key.toLowerCase() === "z") return "^y";
  if (isControl) return `^${event.key.toLowerCase()}`;
  if (event.key === "Backspace") return "Delete";
  if (event.key.length === 1 && !event.shiftKey) return event.key.toLowerCase();
  return event.key;
}

addEventListener("keydown", event => {
  if (event.altKey || ($("help-dialog").open && event.key !== "?")) return;
  const key = keyOf(event);
  if (key === "Enter" && event.target.closest?.("button, summary")) return;
  const shortcut = shortcuts.find(([name]) => name === key);
  const colour = /^[1-9]$/.test(key) && $("palette").children[key - 1];
  if (!shortcut && !colour) return;
  event.preventDefault();
  if (colour) {
    colour.click();
  } else {
    const [, , action] = shortcut;
    action();
  }
});

function showTools() {
  document.body.dataset.kind = page.kind;
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.hidden = !tools.includes(button.dataset.tool);
    button.onclick = () => pickTool(button.dataset.tool);
  }
  if (page.kind === "lines") {
    const button = document.querySelector("[data-tool=brush]");
    Object.assign(button, {ariaLabel: "Pen", title: "Pen (B)"});
    button.querySelector("use").setAttribute("href", "#pen");
    $("surprise-button").hidden = !page.drawings;
  }
}

function showPalette() {
  for (const [colour, name] of page.palette ?? []) {
    const button = document.createElement("button");
    const swatch = document.createElement("i");
    Object.assign(button, {type: "button", className: "colour", onclick: () => pickColour(colour)});
    button.dataset.colour = colour;
    swatch.style.background = colour;
    button.append(swatch, name);
    $("palette").append(button);
  }
}

/** The keys of a shortcut as a keyboard has them. */
function keyNames(key) {
  if (key === "S") return ["Shift", "S"];
  if (key[0] === "^") return ["Ctrl", key[1].toUpperCase()];
  return [key.length === 1 ? key.toUpperCase() : key];
}

/** Adds a line to the help: keys, with texts such as "–" between them, and what they do. */
function explain(keys, meaning) {
  const term = document.createElement("dt");
  const description = document.createElement("dd");
  for (const key of keys) {
    if (key === "–") term.append(key);
    else term.append(Object.assign(document.createElement("kbd"), {textContent: key}));
  }
  description.textContent = meaning;
  $("shortcuts").append(term, description);
}

function showHelp() {
  for (const [key, name] of shortcuts) explain(keyNames(key), name);
  if (page.palette) explain(["1", "–", "9"], "Colour");
  if (!isPhoto) explain(["Arrows", "Space"], "In the drawing: move the cursor, begin and end a stroke");
}

showTools();
showPalette();
showHelp();

$("undo-button").onclick = undo;
$("redo-button").onclick = redo;
$("clear-button").onclick = clear;
$("mirror-button").onclick = () => setMirror(!drawing.mirror);
$("surprise-button").onclick = surprise;
$("width").oninput = () => setWidth(+$("width").value);
$("open-button").onclick = () => $("file").click();
$("camera-button").onclick = toggleCamera;
$("pause-button").onclick = togglePause;
$("record-button").onclick = toggleRecording;
$("stop-button").onclick = () => stopLive();
$("place").oninput = seek;
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
  const file = [...event.clipboardData.files].find(each => /^(image|video)\//.test(each.type));
  if (file) open(file);
});

// -------------------------------------------------------------------------------------------------------------- start

async function begin() {
  showTexts();
  prepareCanvases();
  chooseTools();
  const examples = await Promise.all(page.examples.map(readUrl));
  const [first] = examples;
  if (page.drawings) {
    page.drawings.slice(0, 6).forEach(offerDrawing);
    drawHalf(page.drawings[0].strokes);
  } else {
    examples.forEach(offerExample);
    showExample(first);
  }
  drawing.done = []; // nothing to undo yet
  changed();
  await startNetwork(first);
}

function showTexts() {
  const tasks = {labels: "Draw with labels", lines: "Draw lines", photo: "Bring a photo"};
  document.title = page.name;
  $("credit").textContent = page.credit ?? "";
  $("credit").hidden = !page.credit;
  $("title").textContent = page.name;
  $("subtitle").textContent = `${tasks[page.kind]}, and see it translated`;
}

/** Gives the canvases the size of what the network takes, and clears them. */
function prepareCanvases() {
  Object.assign(drawing.canvas, {width, height});
  Object.assign($("output"), {width, height});
  const context = drawing.canvas.getContext("2d");
  context.fillStyle = drawing.paper;
  context.fillRect(0, 0, width, height);
  if (isPhoto) offerFilms();
  if (isPhoto && innerWidth > 720) $("palette").after($("examples"));
  for (const id of ["input-frame", "output-frame"]) frame($(id), drawing.canvas);
}

/** Photos may come as films too. */
function offerFilms() {
  drawing.canvas.setAttribute("aria-label", "Photo");
  $("file").accept = "image/*,video/*";
  $("open-button").ariaLabel = "Open an image or a film";
  $("open-button").title = "Open an image or a film (O); or drop or paste one";
  $("drop-hint").textContent = "Drop an image or a film";
}

/** The tool, width and colour to begin with. */
function chooseTools() {
  $("width").max = widest;
  setWidth(page.kind === "lines" ? linesWidth : widest / 4);
  pickTool(tools[0]);
  const colours = (page.palette ?? []).map(([colour]) => colour).filter(colour => colour !== page.paper);
  pickColour(page.ink ?? colours[1] ?? colours[0] ?? "#000000");
}

/** A button with a small copy of an example, which puts it into the drawing. */
function offerExample(image, index) {
  const thumbnail = document.createElement("canvas");
  const small = shaped(image);
  const scale = Math.min(1, 160 / Math.min(small.width, small.height));
  showImage(thumbnail, resize(small, [Math.round(small.height * scale), Math.round(small.width * scale)]));
  offer(thumbnail, `Example ${index + 1}`, () => showExample(image));
}

/** A button with one of the drawings that came with the page, which is drawn when it is pressed. */
function offerDrawing({name, strokes}) {
  const thumbnail = document.createElement("canvas");
  Object.assign(thumbnail, {width: 160, height: Math.round((160 * height) / width)});
  const small = new Drawing(thumbnail, {paper: page.paper, ink: page.ink, onchange() {}});
  small.clear();
  new Player(small, {size: page.drawn, colour: page.ink, width: 3}).draw(strokes);
  offer(thumbnail, name, () => {
    drawing.clear();
    player.play(strokes);
  });
}

function offer(thumbnail, name, action) {
  const button = document.createElement("button");
  Object.assign(button, {type: "button", className: "example", ariaLabel: name, title: name});
  button.onclick = () => {
    stopDrawing();
    action();
  };
  button.append(thumbnail);
  $("examples").append(button);
}

/** The drawing to begin with, of which the other half is for the visitor. */
function drawHalf(strokes) {
  player.draw(strokes.slice(0, Math.ceil(strokes.length / 2)));
}

/** Starts the network, checks it against Python's translation of an example, and tries the GPU. */
async function startNetwork(example) {
  const output = await readUrl(page.check);
  const input = cutWindow(example, 0, 0, height, width);
  const measured = await translator.start({input: input.data, output: output.data});
  showProgress(100);
  $("progress").classList.add("done");
  const tolerance = page.difference + 0.5;
  sayHowExact(measured.mean, tolerance);
  showAbout(self.crossOriginIsolated ? "CPU, all cores" : "CPU");
  document.body.dataset.ready = "cpu";
  translator.next();
  const hasGpu = await translator.tryGpu(measured, tolerance);
  if (hasGpu) showAbout("GPU");
  document.body.dataset.ready = hasGpu ? "gpu" : "cpu-alone";
}

function sayHowExact(mean, tolerance) {
  const apart = `${mean.toFixed(2)} of 255 levels`;
  if (mean <= tolerance) say(`Ready. Checked: the first example comes out as in Python, ${apart} apart on average.`);
  else say(`This browser's translations differ from Python's by ${apart} on average: do not trust them.`, true);
}

function showAbout(place) {
  const letters = {AtoB: "A to B", BtoA: "B to A"}[page.direction] ?? page.direction;
  $("about").textContent = `${page.algorithm}, ${letters} · ${page.weights} weights · ${place}`;
}

/** An example has the size that the network takes, or any if that is what it takes. */
function showExample(image) {
  $("full-label").hidden = true;
  drawing.replace(image, null);
}

begin().catch(error =>
  say(`The page cannot start: ${error.message}. Try a current Chrome, Edge, Firefox or Safari.`, true),
);
