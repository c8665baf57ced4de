// Answers as a CSV file, made here.

const RANKS = 5;

// The text of a table with a row for each card: a picture without an answer has its reason there
export function toCsv(cards) {
  const ranked = Array.from({ length: RANKS }, (_, index) => (index ? `_${index + 1}` : ""));
  const head = ["file", ...ranked.flatMap((rank) => [`class${rank}`, `probability${rank}`])];
  const rows = [[...head, "unsure", "threshold", "id", "model", "version", "error"]];
  for (const { file, answer, problem } of cards) {
    const classes = Object.entries(answer?.probabilities ?? {}).slice(0, RANKS);
    const cells = classes.flatMap(([name, probability]) => [name, probability.toFixed(6)]);
    while (cells.length < 2 * RANKS) cells.push("");
    const facts = answer
      ? [answer.unsure, answer.threshold ?? "", answer.id, answer.model.name, answer.model.version, ""]
      : ["", "", "", "", "", problem ? `${problem.title}: ${problem.message}` : "no answer"];
    rows.push([file.webkitRelativePath || file.name, ...cells, ...facts]);
  }
  return rows.map((row) => row.map(cell).join(",") + "\r\n").join("");
}

// Quoted where it must be; what a spreadsheet would take for a formula begins with an apostrophe
function cell(value) {
  let text = String(value);
  if (/^[=+\-@\t\r\n]/.test(text)) text = `'${text}`;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function download(name, text) {
  const mark = "\ufeff"; // spreadsheets take a file without it for one of their own encoding
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([mark, text], { type: "text/csv" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
