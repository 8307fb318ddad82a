// Records a page of labels while a façade is drawn: frames for README's animated image.
//
//     node web/demo/record.mjs PUPPETEER CHROMIUM PAGE.html FOLDER     PUPPETEER: as in tests/test_page.py
//     python web/demo/record.py FOLDER draw.webp
import {mkdirSync} from "node:fs";
import {pathToFileURL} from "node:url";

const [library, executablePath, file, folder] = process.argv.slice(2);
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
  await new Promise(done => setTimeout(done, 1500));
  await page.screenshot({path: `${folder}/${String(frames++).padStart(3, "0")}.png`});
}

async function drag(x0, y0, x1, y1) {
  const {x, y, width, height} = await (await page.$("#input")).boundingBox();
  await page.mouse.move(x + x0 * width, y + y0 * height);
  await page.mouse.down();
  await page.mouse.move(x + x1 * width, y + y1 * height, {steps: 3});
  await page.mouse.up();
}

const choose = name => page.evaluate(name => {
  [...document.querySelectorAll("#palette button")].find(button => button.textContent === name).click();
}, name);

async function draw(name, ...rectangles) {
  await choose(name);
  for (const corners of rectangles) {
    await drag(...corners);
    await shoot();
  }
}

const columns = [0.17, 0.335, 0.5, 0.665, 0.83];
const rows = [0.24, 0.43, 0.62];
const windows = rows.flatMap(y => columns.map(x => [x, y]));
await page.click("#clear-button");
await page.click('[data-tool="fill"]');
await draw("background", [0.5, 0.5, 0.5, 0.5]);
await page.click('[data-tool="rect"]');
await draw("facade", [0.07, 0.15, 0.93, 0.92]);
await draw("molding", [0.06, 0.13, 0.94, 0.16], [0.07, 0.75, 0.93, 0.765]);
await draw("window", ...windows.map(([x, y]) => [x - 0.035, y, x + 0.035, y + 0.1]));
await draw("blind", ...columns.flatMap(x => [[x - 0.068, 0.43, x - 0.036, 0.53], [x + 0.036, 0.43, x + 0.068, 0.53]]));
await draw("sill", ...columns.map(x => [x - 0.04, 0.34, x + 0.04, 0.355]));
await draw("balcony", ...[columns[1], columns[3]].map(x => [x - 0.065, 0.68, x + 0.065, 0.735]));
await draw("shop", [0.1, 0.79, 0.42, 0.92], [0.58, 0.79, 0.9, 0.92]);
await draw("door", [0.46, 0.8, 0.54, 0.92]);
await browser.close();
