// Records a page of labels while a façade is drawn: frames for README's animated image.
//
//     node web/demo/record.mjs PUPPETEER CHROMIUM PAGE.html FOLDER     PUPPETEER: as in tests/test_page.py
//     python web/demo/record.py FOLDER docs/images/draw.webp
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

const columns = [0.14, 0.38, 0.62];
const rows = [0.16, 0.38, 0.6];
await page.click("#clear-button");
await page.click('[data-tool="rect"]');
await shoot();
await page.click('[data-tool="fill"]');
await draw("background", [0.5, 0.5, 0.5, 0.5]);
await page.click('[data-tool="rect"]');
await draw("facade", [0.06, 0.08, 0.94, 0.98]);
await draw("molding", [0.03, 0.05, 0.97, 0.08], [0.06, 0.76, 0.94, 0.785]);
await draw("window", ...rows.flatMap(y => [...columns, 0.82].map(x => [x - 0.04, y, x + 0.06, y + 0.12])));
await draw("blind", ...columns.flatMap(x => [[x - 0.075, 0.38, x - 0.042, 0.5], [x + 0.062, 0.38, x + 0.095, 0.5]]));
await draw("balcony", [0.55, 0.66, 0.73, 0.73]);
await draw("door", [0.36, 0.82, 0.48, 0.98]);
await draw("window", [0.12, 0.84, 0.26, 0.94], [0.58, 0.84, 0.72, 0.94], [0.78, 0.84, 0.9, 0.94]);
await browser.close();
