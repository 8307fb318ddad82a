// Drives a browser for tests/test_page.py. Usage: node browser.mjs PUPPETEER chrome|firefox EXECUTABLE DOWNLOADS FLAGS
//
// Reads lines of JSON: {code}, the body of an async function of (page, browser, log), and answers each with a line:
// {value} or {error}. log holds what the page printed, threw and requested.
import readline from "node:readline";

const [library, name, executablePath, downloads, ...flags] = process.argv.slice(2);
const {default: puppeteer} = await import(library);
const chrome = [
  "--no-sandbox",
  "--disable-dev-shm-usage",
  "--use-fake-device-for-media-stream=fps=60",
  "--use-fake-ui-for-media-stream",
];
const browser = await puppeteer.launch({
  browser: name,
  executablePath,
  headless: true,
  protocolTimeout: 280000,
  args: name === "chrome" ? [...chrome, ...flags] : flags,
  downloadBehavior: {policy: "allow", downloadPath: downloads},
  extraPrefsFirefox: {
    "media.navigator.streams.fake": true,
    "media.navigator.permission.disabled": true,
    "browser.download.folderList": 2,
    "browser.download.dir": downloads,
    "browser.download.useDownloadDir": true,
    "browser.download.always_ask_before_handling_new_types": false,
  },
});
let page;
let log;

async function open(url, {width = 1000, height = 760, phone = false, before = ""} = {}) {
  await page?.close();
  page = await browser.newPage();
  log = {console: [], errors: [], requests: []};
  record(page, log);
  const viewport = {width, height};
  if (phone && name === "chrome") Object.assign(viewport, {isMobile: true, hasTouch: true});
  await page.setViewport(viewport).catch(forgiveOlderFirefox);
  if (before) await page.evaluateOnNewDocument(before);
  await page.goto(url, {waitUntil: "domcontentloaded", timeout: 120000});
}

/** Firefox before 142 sets the size, and then does not know how to turn the screen. */
function forgiveOlderFirefox(error) {
  if (!String(error).includes("unknown command emulation.setScreenOrientationOverride")) throw error;
}

function record(page, log) {
  page.on("console", message => log.console.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", error => log.errors.push(String(error)));
  page.on("request", request => {
    const isInside = /^(data|blob):/.test(request.url());
    if (!isInside) log.requests.push(request.url());
  });
}

for await (const line of readline.createInterface({input: process.stdin})) {
  let answer;
  try {
    const {code} = JSON.parse(line);
    const run = new Function("page", "browser", "log", "open", `return (async () => { ${code} })()`);
    answer = {value: (await run(page, browser, log, open)) ?? null};
  } catch (error) {
    answer = {error: String(error?.stack ?? error)};
  }
  console.log(JSON.stringify(answer));
}
await browser.close();
