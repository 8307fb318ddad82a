// Records a page of lines while cats are drawn with the mouse: frames for README's animated image.
//
//     node web/demo/record.mjs PUPPETEER CHROMIUM PAGE.html FOLDER "sitting, from the front" crouching
//     PUPPETEER: as in tests/test_page.py
//     python web/demo/record.py FOLDER docs/images/draw-cats.webp
import {mkdirSync, readFileSync} from "node:fs";
import {pathToFileURL} from "node:url";

const NAMES = process.argv.slice(6); // of samples/drawings/cats.json
const [library, executablePath, file, folder] = process.argv.slice(2, 6);
const {size, colours, drawings} = JSON.parse(readFileSync(new URL("../../samples/drawings/cats.json", import.meta.url)));
const {default: puppeteer} = await import(library);
const browser = await puppeteer.launch({executablePath, headless: true, args: ["--no-sandbox"], protocolTimeout: 600000});
const page = await browser.newPage();
await page.setViewport({width: 1120, height: 760});
await page.goto(pathToFileURL(file).href);
await page.waitForFunction("document.body.dataset.ready?.startsWith('cpu')", {timeout: 300000});
mkdirSync(folder, {recursive: true});
let frames = 0;

/** A frame, once the translation is that of the drawing. */
async function shoot() {
  await new Promise(done => setTimeout(done, 800));
  await page.screenshot({path: `${folder}/${String(frames++).padStart(3, "0")}.png`});
}

const lines = await page.$eval("#width", slider => slider.value);

/** Takes a colour of the palette, and a width in units of the drawing. */
async function take(colour, width) {
  await page.click(`.colour[data-colour="${colour}"]`);
  const change = (slider, value) => {
    slider.value = value;
    slider.dispatchEvent(new Event("input"));
  };
  await page.$eval("#width", change, width);
}

/** Draws a stroke of samples/drawings/cats.json with the mouse. */
async function draw(stroke) {
  if (stroke.points) await take(colours[stroke.colour], stroke.width);
  else await take("#000000", lines);
  await drag(stroke.points ?? stroke);
}

/** Draws [x, y, x, y, ...] in units of the drawing with the mouse. */
async function drag(stroke) {
  const {x, y, width, height} = await (await page.$("#input")).boundingBox();
  const points = [];
  for (let i = 0; i < stroke.length; i += 2)
    points.push([x + (stroke[i] * width) / size[1], y + (stroke[i + 1] * height) / size[0]]);
  await page.mouse.move(...points[0]);
  await page.mouse.down();
  for (const point of points) await page.mouse.move(...point, {steps: 2});
  await page.mouse.up();
}

for (const name of NAMES) {
  const {strokes} = drawings.find(drawing => drawing.name === name);
  await page.click("#clear-button");
  for (const stroke of strokes) {
    await draw(stroke);
    await shoot();
  }
  for (let pause = 0; pause < 6; pause++) await shoot();
}
await browser.close();
