"use strict";

// The terminal reads where to connect to, and how wide a letter is, when it begins: both must be known before.
const terminal = document.getElementById("terminal");
const address = new URL("screen/", window.location.href);
address.protocol = address.protocol.replace("http", "ws");
address.search = "";
terminal.dataset.sessionWebsocketUrl = address.href;

const begin = window.onload;
window.onload = (event) => {
  const font = `${terminal.dataset.fontSize}px "Roboto Mono"`;
  Promise.allSettled([document.fonts.load(font), document.fonts.load(`bold ${font}`)]).then(() => begin(event));
};

// Keys are for the terminal from its first picture on; before, it has nobody to tell them to.
new MutationObserver((_, observer) => {
  if (document.body.classList.contains("-first-byte")) {
    observer.disconnect();
    terminal.querySelector("textarea").focus();
  }
}).observe(document.body, { attributes: true, attributeFilter: ["class"] });

document.getElementById("again").addEventListener("click", () => window.location.reload());
