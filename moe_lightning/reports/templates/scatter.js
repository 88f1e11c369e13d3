"use strict";
const data = JSON.parse(document.getElementById("points").textContent);
const canvas = document.getElementById("canvas"), tip = document.getElementById("tip");
const legend = document.getElementById("legend"), choice = document.getElementById("colour-by");
const audio = document.getElementById("audio"), said = document.getElementById("said");
const DARK = [68, 1, 84], MIDDLE = [33, 145, 140], LIGHT = [253, 200, 37];  // the ends and middle of viridis
let shown = null, places = [];

function mix(a, b, t) { return a.map((from, i) => Math.round(from + (b[i] - from) * t)); }
function shade(t) { return `rgb(${t < 0.5 ? mix(DARK, MIDDLE, 2 * t) : mix(MIDDLE, LIGHT, 2 * t - 1)})`; }

function mark(context, x, y, size, colour, shape) {
  context.fillStyle = colour;
  context.beginPath();
  if (shape === 0) context.arc(x, y, size, 0, 2 * Math.PI);
  else if (shape === 1) { context.moveTo(x, y - 1.3 * size); context.lineTo(x + 1.2 * size, y + size); context.lineTo(x - 1.2 * size, y + size); }
  else if (shape === 2) context.rect(x - 0.9 * size, y - 0.9 * size, 1.8 * size, 1.8 * size);
  else { context.moveTo(x, y - 1.4 * size); context.lineTo(x + 1.1 * size, y); context.lineTo(x, y + 1.4 * size); context.lineTo(x - 1.1 * size, y); }
  context.closePath();
  context.fill();
  context.lineWidth = 0.7;
  context.strokeStyle = "#fff";
  context.stroke();
}

function look(column, value) {
  if (value === null || value === "noise") return { colour: "#bbbbbb", shape: 0 };
  if (column.numbers) return { colour: shade((value - column.low) / (column.high - column.low || 1)), shape: 0 };
  const place = column.order.indexOf(value);
  return { colour: data.colours[place % data.colours.length], shape: Math.floor(place / data.colours.length) % 4 };
}

function draw() {
  const column = data.columns[choice.value], ratio = window.devicePixelRatio || 1;
  canvas.width = canvas.clientWidth * ratio;
  canvas.height = canvas.clientHeight * ratio;
  const context = canvas.getContext("2d"), margin = 16, width = canvas.clientWidth, height = canvas.clientHeight;
  context.scale(ratio, ratio);
  places = data.x.map((x, i) => [margin + x * (width - 2 * margin), height - margin - data.y[i] * (height - 2 * margin)]);
  const size = data.x.length > 1500 ? 2.6 : data.x.length > 400 ? 3.6 : 5;
  places.forEach(([x, y], i) => {
    const value = column.values[i], { colour, shape } = look(column, value);
    context.globalAlpha = shown === null || value === shown ? 0.85 : 0.06;
    mark(context, x, y, size, colour, shape);
  });
}

function fillLegend() {
  const column = data.columns[choice.value];
  shown = null;
  legend.replaceChildren();
  const entries = column.numbers
    ? [0, 0.25, 0.5, 0.75, 1].map((t) => [column.low + t * (column.high - column.low), ""])
    : column.order.concat(column.values.includes(null) ? [null] : []).map((v) => [v, ` (${column.values.filter((w) => w === v).length})`]);
  for (const [value, count] of entries) {
    const button = document.createElement("button"), swatch = document.createElement("canvas"), { colour, shape } = look(column, value);
    swatch.width = swatch.height = 32;
    mark(swatch.getContext("2d"), 16, 16, 9, colour, shape);
    const text = value === null ? "not known" : column.numbers ? Number(value.toPrecision(3)).toString() : value;
    button.append(swatch, text + count);
    if (!column.numbers) button.onclick = () => {
      shown = shown === value ? null : value;
      for (const other of legend.children) other.setAttribute("aria-pressed", String(other === button && shown !== null));
      draw();
    };
    legend.append(button);
  }
}

function nearest(event) {
  const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
  let best = -1, least = 144;
  places.forEach(([px, py], i) => {
    const distance = (px - x) ** 2 + (py - y) ** 2;
    if (distance < least) { least = distance; best = i; }
  });
  return best;
}

canvas.onmousemove = (event) => {
  const i = nearest(event);
  tip.style.display = i < 0 ? "none" : "block";
  if (i < 0) return;
  const known = Object.entries(data.columns).filter(([, column]) => column.values[i] !== null);
  const facts = known.map(([name, { numbers, values }]) => `${data.names[name]}: ${numbers ? Number(values[i].toPrecision(3)) : values[i]}`);
  tip.textContent = [data.ids[i], data.texts[i] ? `“${data.texts[i]}”` : "", ...facts].filter(Boolean).join("\n");
  tip.style.left = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8) + "px";
  tip.style.top = Math.min(event.clientY + 14, window.innerHeight - tip.offsetHeight - 8) + "px";
};
canvas.onmouseleave = () => { tip.style.display = "none"; };
canvas.onclick = (event) => {
  const i = nearest(event);
  if (i < 0 || !data.audio[i]) return;
  audio.hidden = false;
  audio.src = data.audio[i];
  said.textContent = `${data.ids[i]} ${data.texts[i] ? `“${data.texts[i]}”` : ""}`;
  audio.play().catch(() => { said.textContent = `${data.audio[i]} cannot be played here`; });
};
choice.onchange = () => { fillLegend(); draw(); };
window.onresize = draw;
fillLegend();
draw();
