// The page: which model answers, pictures in, a queue of a few at a time, answers out.

import { setUpCamera } from "./camera.js";
import { Card } from "./card.js";
import { setUpIntake } from "./intake.js";
import { Server } from "./server.js";
import { download, toCsv } from "./table.js";
import { acceptedFiles, accuracy, count, date, megabytes, percent } from "./wording.js";

const AT_ONCE = 3;
const SPOKEN = 3; // of more pictures than these the end alone is announced

const find = (id) => document.getElementById(id);
const server = new Server(askForToken);
let cards = [];
let model = null;
let numAsking = 0;

async function loadModel() {
  const state = find("model-state");
  find("model-again").hidden = true;
  try {
    const onWait = (_, reason) => (state.textContent = reason);
    model = await server.ask("model", { onWait });
  } catch (error) {
    state.textContent = `No model: ${error.message}`;
    find("model-again").hidden = false;
    return;
  }
  showModel();
  pump();
}

function showModel() {
  find("model-state").textContent = model.name;
  const facts = [["Version", model.version]];
  if (model.created) facts.push(["Date", date(model.created)]);
  facts.push(["Accuracy", accuracy(model.accuracy)]);
  if (Number.isFinite(model.threshold)) facts.push(["Sure from", percent(model.threshold)]);
  if (model.classes?.length) facts.push(["Classes", String(model.classes.length)]);
  if (model.precision) facts.push(["Precision", model.precision]);
  find("model-facts").replaceChildren(
    ...facts.map(([name, value]) => {
      const [pair, term, fact] = ["div", "dt", "dd"].map((tag) => document.createElement(tag));
      [term.textContent, fact.textContent] = [name, value];
      pair.append(term, fact);
      return pair;
    }),
  );
  find("model-facts").hidden = false;
  find("forget").hidden = !server.token;
  const types = model.content_types ?? [];
  find("files").accept = acceptedFiles(types);
  const kinds = types.filter((type) => type.startsWith("image/")).map((type) => type.slice(6).toUpperCase());
  if (types.includes("application/x-npy")) kinds.push("NPY");
  const limits = [kinds.join(", "), model.max_bytes ? `up to ${megabytes(model.max_bytes)} each` : ""];
  find("limits").textContent = limits.filter(Boolean).join(", ");
  find("classes").replaceChildren(
    ...(model.classes ?? []).map((name) => {
      const option = document.createElement("option");
      option.value = name;
      return option;
    }),
  );
}

function addFiles(files) {
  if (!files.length) return;
  const added = files.map((file) => {
    const card = new Card(file, server, { onChange: showProgress, announce: announceOne });
    card.onAgain = askAgain;
    return card;
  });
  cards = [...added, ...cards]; // the newest first, as they are shown
  find("cards").prepend(...added.map((card) => card.element));
  find("results").hidden = false;
  showProgress();
  if (find("cards").getBoundingClientRect().top > 0.7 * innerHeight) find("results").scrollIntoView();
  pump();
}

function askAgain(card) {
  card.queue();
  card.find(".cancel").focus();
  pump();
}

function pump() {
  while (model && numAsking < AT_ONCE) {
    const next = cards.find((card) => card.state === "queued");
    if (!next) return;
    numAsking += 1;
    next.run(model).finally(() => {
      numAsking -= 1;
      pump();
    });
  }
}

function announceOne(text) {
  if (cards.length <= SPOKEN) find("announcement").textContent = text;
}

function showProgress() {
  const number = (...states) => cards.filter((card) => states.includes(card.state)).length;
  const [open, unsure, without] = [number("queued", "asking"), number("unsure"), number("failed", "cancelled")];
  const parts = [open ? `${cards.length - open} of ${count(cards.length, "picture")}` : count(cards.length, "picture")];
  if (unsure) parts.push(`${unsure} not sure`);
  if (without) parts.push(`${without} without an answer`);
  find("summary").textContent = parts.join(" · ");
  find("progress").hidden = !open;
  find("progress").max = cards.length;
  find("progress").value = cards.length - open;
  find("cancel-all").hidden = open < 2;
  find("download").hidden = open === cards.length;
  find("clear").hidden = false;
  if (!open && cards.length > SPOKEN) find("announcement").textContent = `Done: ${parts.join(", ")}`;
}

function clear() {
  for (const card of cards) card.release();
  cards = [];
  find("results").hidden = true;
  find("announcement").textContent = "";
  find("choose").focus();
}

// The token that was typed, or nothing where it was refused
function askForToken(reason) {
  const [dialog, field] = [find("token-dialog"), find("token")];
  find("token-reason").textContent = reason;
  field.value = "";
  field.setCustomValidity("");
  dialog.returnValue = "cancel"; // of Escape
  dialog.showModal();
  return new Promise((resolve) => {
    const onClose = () => {
      const isGiven = dialog.returnValue === "use";
      if (!isGiven) cards.forEach((card) => card.cancel()); // each of them would ask again
      resolve(isGiven ? field.value.trim() : "");
    };
    dialog.addEventListener("close", onClose, { once: true });
  });
}

setUpIntake(addFiles);
setUpCamera(addFiles);
find("cancel-all").addEventListener("click", () => cards.forEach((card) => card.cancel()));
find("download").addEventListener("click", () => download("predictions.csv", toCsv(cards)));
find("clear").addEventListener("click", clear);
find("model-again").addEventListener("click", loadModel);
find("forget").addEventListener("click", () => {
  server.forgetToken();
  location.reload();
});
find("token").addEventListener("input", ({ target }) => {
  const isPlain = /^[\x21-\x7e]*$/.test(target.value.trim()); // of a header
  target.setCustomValidity(isPlain ? "" : "A token has letters, digits and signs alone, and no spaces.");
});
loadModel();
