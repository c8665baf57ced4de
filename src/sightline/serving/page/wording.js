// Numbers and facts as people read them.

const shares = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const counts = new Intl.NumberFormat("en");

// 0.934 → "93.4%"; never "100.0%" or "0.0%" for what is neither
export function percent(share) {
  if (share < 1 && share >= 0.9995) return "> 99.9%";
  if (share > 0 && share < 0.0005) return "< 0.1%";
  return shares.format(share);
}

export const count = (number, noun) => `${counts.format(number)} ${noun}${number === 1 ? "" : "s"}`;

export function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

export function date(iso) {
  const time = new Date(iso);
  if (Number.isNaN(time.getTime())) return String(iso);
  return new Intl.DateTimeFormat("en-GB", { dateStyle: "long", timeZone: "UTC" }).format(time);
}

export function accuracy(measured) {
  if (!measured || !Number.isFinite(measured.value)) return "not measured";
  const split = measured.split === "val" ? "validation" : measured.split;
  const on = measured.images ? ` of ${counts.format(measured.images)} ${split ?? ""} images`.replace("  ", " ") : "";
  const hasInterval = Number.isFinite(measured.low) && Number.isFinite(measured.high);
  const interval = hasInterval ? ` (95% interval ${percent(measured.low)} to ${percent(measured.high)})` : "";
  return `${percent(measured.value)}${on}${interval}`;
}

export function whyUnsure(answer) {
  return (
    `The most probable class has ${percent(answer.probability)}; this model's answers can be relied on from ` +
    `${percent(answer.threshold)} on. The picture may be unclear, or show something that the model does not know: ` +
    "look at it yourself."
  );
}

// What hiding the most important region does to the probability
export function effect(explanation) {
  const { label, probability, drop } = explanation;
  if (drop < 0.005) return `No single region decides: hiding any of them lowers “${label}” by less than 0.01.`;
  const change = `from ${percent(probability)} to ${percent(Math.max(probability - drop, 0))}`;
  return `Hiding the framed region lowers “${label}” by ${drop.toFixed(2)}, ${change}.`;
}

// Of the type that the server knows: a browser may have none for a file, or one of its own
const TYPES = {
  bmp: "image/bmp",
  jpeg: "image/jpeg",
  jpg: "image/jpeg",
  npy: "application/x-npy",
  png: "image/png",
  tif: "image/tiff",
  tiff: "image/tiff",
  webp: "image/webp",
};

export function contentType(file) {
  const ending = file.name.toLowerCase().split(".").pop();
  return TYPES[ending] ?? (file.type || "application/octet-stream");
}

export function acceptedFiles(types) {
  const endings = Object.keys(TYPES).filter((ending) => types.includes(TYPES[ending]));
  return [...types.filter((type) => type.startsWith("image/")), ...endings.map((ending) => `.${ending}`)].join(",");
}
