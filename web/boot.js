// Runs before all else, in any browser, and so in the oldest JavaScript: takes the parts of runtime and model as they
// arrive, shows how far that is, and says in a sentence what goes wrong before the rest of the page can.
"use strict";
var parts = {};
var arrived = 0; // characters of the parts
var expected = 0;

function settings() {
  return JSON.parse(document.getElementById("settings").textContent);
}

function showProgress(percent) {
  var bar = document.getElementById("progress");
  bar.firstElementChild.style.width = percent + "%";
  bar.setAttribute("aria-valuenow", Math.round(percent));
}

function say(text, isError) {
  var status = document.getElementById("status");
  status.textContent = text;
  status.className = isError ? "error" : "";
}

function part(name, text) {
  if (!parts[name]) parts[name] = [];
  parts[name].push(text);
  arrived += text.length;
  document.currentScript.remove(); // its text is kept once
  if (!expected) expected = settings().total;
  showProgress((90 * arrived) / expected);
}

window.onerror = function (message) {
  if (document.getElementById("status")) say("Something went wrong: " + message, true);
};

window.onunhandledrejection = function (event) {
  say("Something went wrong: " + ((event.reason && event.reason.message) || event.reason), true);
};

document.addEventListener("DOMContentLoaded", function () {
  var needs = ["WebAssembly", "Worker", "DecompressionStream", "createImageBitmap", "PointerEvent"];
  for (var i = 0; i < needs.length; i++)
    if (!(needs[i] in window))
      say("This browser is too old for this page (no " + needs[i] + "): use a current one.", true);
});
