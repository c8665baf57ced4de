// Pictures that are chosen, pasted or dropped, also as folders.

export function setUpIntake(addFiles) {
  const [chooser, over] = [document.getElementById("files"), document.getElementById("drop-here")];
  document.getElementById("choose").addEventListener("click", () => chooser.click());
  chooser.addEventListener("change", () => {
    addFiles([...chooser.files]);
    chooser.value = ""; // the same file may be chosen again
  });
  document.addEventListener("paste", (event) => {
    if (!event.clipboardData?.files.length) return;
    event.preventDefault();
    addFiles([...event.clipboardData.files]);
  });
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  window.addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    over.hidden = false;
  });
  window.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) over.hidden = true;
  });
  window.addEventListener("drop", async (event) => {
    over.hidden = true;
    if (!holdsFiles(event)) return;
    event.preventDefault();
    addFiles(await dropped(event.dataTransfer));
  });
}

async function dropped(transfer) {
  const files = [...transfer.files]; // both are empty once the event is over
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return files;
  const inside = await Promise.all(entries.map(filesBelow));
  return inside.flat();
}

async function filesBelow(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return entry.name.startsWith(".") ? [] : [file];
  }
  const reader = entry.createReader();
  const entries = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // 100 at a time
    if (!some.length) break;
    entries.push(...some);
  }
  entries.sort((one, other) => one.name.localeCompare(other.name, "en", { numeric: true }));
  const inside = await Promise.all(entries.map(filesBelow));
  return inside.flat();
}
