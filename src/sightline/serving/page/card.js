// One picture: from the queue to its answer, its heat map and what people say of it.

import { Problem } from "./server.js";
import { contentType, effect, megabytes, percent, whyUnsure } from "./wording.js";

export class Card {
  answer = null;
  problem = null;
  state = "queued"; // then asking, and done, failed or cancelled
  #stop = new AbortController();

  constructor(file, server, { onChange, announce }) {
    Object.assign(this, { file, server, onChange, announce });
    this.element = document.getElementById("card").content.cloneNode(true).firstElementChild;
    this.find(".file").textContent = file.name;
    this.#showPicture();
    this.find(".cancel").addEventListener("click", () => this.cancel());
    this.find(".again").addEventListener("click", () => this.onAgain(this));
    this.find(".explain").addEventListener("click", () => this.#toggleHeatMap());
    this.find(".feedback form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#sendFeedback(event.target);
    });
    for (const name of ["cancel", "again", "explain"]) {
      const button = this.find(`.${name}`);
      button.setAttribute("aria-label", `${button.textContent}: ${file.name}`);
    }
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  get isOpen() {
    return this.state === "queued" || this.state === "asking";
  }

  // Ask for this picture's answer; never throws
  async run(model) {
    if (!this.isOpen) return;
    this.#become("asking", "Waiting for the answer …");
    try {
      const answer = await this.#post("invocations", await this.#bytes(model));
      this.#showAnswer(answer, model);
    } catch (error) {
      if (error.name === "AbortError" || this.state === "cancelled") return; // said where it was cancelled
      this.#showProblem(error instanceof Problem ? error : new Problem("The page failed", error.message));
    }
  }

  queue() {
    this.#stop = new AbortController();
    this.problem = null;
    this.find(".problem").hidden = true;
    this.find(".doing").hidden = false;
    this.#become("queued", "In the queue");
  }

  cancel() {
    if (!this.isOpen) return;
    this.#stop.abort();
    this.state = "cancelled"; // before the problem is shown, which tells of the change
    this.#showProblem(new Problem("Cancelled", "It was not answered."), "cancelled");
  }

  release() {
    this.#stop.abort();
    URL.revokeObjectURL(this.find(".picture img").src);
    this.element.remove();
  }

  #become(state, doing) {
    this.state = state;
    this.element.dataset.state = state;
    if (doing) this.find(".doing p").textContent = doing;
    this.onChange(this);
  }

  #showPicture() {
    const [image, placeholder] = [this.find(".picture img"), this.find(".placeholder")];
    image.addEventListener("error", () => {
      image.hidden = true;
      placeholder.hidden = false;
    });
    image.src = URL.createObjectURL(this.file);
  }

  async #bytes(model) {
    if (this.file.size > model.max_bytes) {
      throw new Problem(
        "Too large",
        `This file has ${megabytes(this.file.size)}, and the server takes up to ${megabytes(model.max_bytes)}. ` +
          "It is not made smaller here, as other pixels may get another answer: save it smaller yourself.",
        413,
      );
    }
    if (this.file.size === 0) throw new Problem("Empty", "This file has no bytes.", 400);
    try {
      return await this.file.arrayBuffer();
    } catch {
      throw new Problem("Not readable", "The browser cannot read this file: was it moved, or is it a folder?");
    }
  }

  #post(path, body) {
    return this.server.ask(path, {
      method: "POST",
      body,
      type: contentType(this.file),
      signal: this.#stop.signal,
      onWait: (seconds, reason) => {
        this.find(".doing p").textContent = `${reason}; trying again in ${Math.ceil(seconds)} s …`;
      },
    });
  }

  #showAnswer(answer, model) {
    this.answer = answer;
    this.find(".label").textContent = answer.label;
    this.find(".share").textContent = percent(answer.probability);
    this.find(".bars").replaceChildren(...Object.entries(answer.probabilities).map(bar));
    if (answer.unsure) {
      this.find(".flag").hidden = false;
      this.find(".why-unsure").hidden = false;
      this.find(".why-unsure").textContent = whyUnsure(answer);
    }
    if (Number.isFinite(answer.threshold)) {
      this.find(".bars").style.setProperty("--threshold", `${100 * answer.threshold}%`);
      this.find(".bars").classList.add("has-threshold");
      this.find(".threshold").hidden = false;
      this.find(".threshold").textContent = `Dashed line: below ${percent(answer.threshold)} the model is not sure.`;
    }
    this.find(".feedback summary").textContent = answer.unsure ? "You know the right class?" : "Wrong?";
    this.find(".feedback input").placeholder = `one of ${model.classes?.length ?? "the"} classes`;
    this.#show(".answer");
    this.#become(answer.unsure ? "unsure" : "done");
    const sure = answer.unsure ? "not sure, perhaps " : "";
    this.announce(`${this.file.name}: ${sure}${answer.label}, ${percent(answer.probability)}`);
  }

  // In place of the progress; whoever is on its button goes on from there
  #show(part) {
    const wasThere = this.find(".doing").contains(document.activeElement);
    this.find(".doing").hidden = true;
    this.find(part).hidden = false;
    if (wasThere) this.find(`${part} h3`).focus();
  }

  #showProblem(problem, state = "failed") {
    this.problem = problem;
    this.find(".problem h3").textContent = problem.title;
    this.find(".problem p").textContent = problem.message;
    this.find(".again").hidden = !mayChange(problem.status);
    this.#show(".problem");
    this.#become(state);
    this.announce(`${this.file.name}: ${problem.title}. ${problem.message}`);
  }

  async #toggleHeatMap() {
    const [button, figure] = [this.find(".explain"), this.find(".heat")];
    const isShown = button.getAttribute("aria-expanded") === "true";
    if (!isShown && !figure.dataset.ready && !(await this.#fetchHeatMap())) return;
    figure.hidden = isShown;
    if (!isShown) figure.scrollIntoView({ block: "nearest" }); // on a phone it is above the button
    button.setAttribute("aria-expanded", String(!isShown));
    button.textContent = isShown ? "Show the heat map" : "Hide the heat map";
    button.setAttribute("aria-label", `${button.textContent}: ${this.file.name}`);
  }

  async #fetchHeatMap() {
    const [button, state] = [this.find(".explain"), this.find(".explain-state")];
    if (button.getAttribute("aria-busy") === "true") return false;
    button.setAttribute("aria-busy", "true");
    state.textContent = "Hiding one region after another …";
    try {
      const explanation = await this.#post("explain", await this.file.arrayBuffer());
      const [image, caption] = [this.find(".heat img"), this.find(".heat figcaption")];
      if (!explanation.image.startsWith("data:image/png;base64,")) throw new Problem("No heat map", "It is no PNG.");
      image.src = explanation.image;
      caption.textContent = effect(explanation);
      image.alt = `Heat map of ${this.file.name}. ${caption.textContent}`;
      this.find(".heat").dataset.ready = "yes";
      state.textContent = "";
      this.announce(caption.textContent);
      return true;
    } catch (error) {
      state.textContent = error.name === "AbortError" ? "" : `No heat map: ${error.message}`;
      return false;
    } finally {
      button.removeAttribute("aria-busy");
    }
  }

  async #sendFeedback(form) {
    const [state, button] = [this.find(".feedback-state"), form.querySelector("button")];
    const label = form.label.value.trim();
    button.disabled = true;
    try {
      const body = JSON.stringify({ id: this.answer.id, label });
      await this.server.ask("feedback", { method: "POST", body, type: "application/json", signal: this.#stop.signal });
      state.textContent = `Thank you: noted as “${label}”.`;
      this.find(".feedback").open = false;
      this.find(".feedback summary").focus();
    } catch (error) {
      if (error.name !== "AbortError") state.textContent = `Not noted: ${error.message}`;
    } finally {
      button.disabled = false;
    }
  }
}

// Whether the same picture may get an answer another time
const mayChange = (status) => status < 400 || status >= 500 || [401, 408, 429].includes(status);

function bar([name, probability]) {
  const row = document.createElement("li");
  const [label, share, track, fill] = ["bdi", "span", "span", "span"].map((tag) => document.createElement(tag));
  label.textContent = name;
  share.textContent = percent(probability);
  track.className = "track";
  track.setAttribute("aria-hidden", "true");
  fill.style.width = `${100 * probability}%`;
  track.append(fill);
  row.append(label, " ", share, track);
  return row;
}
