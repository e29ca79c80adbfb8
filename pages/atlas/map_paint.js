// Painting the map: points into an image, names over it where they fit. Read together with map.js, as one module.

const FEW = 6000; // points in view that are drawn as discs instead of pixels
const NAMED = 260; // points in view whose headlines are written beside them

function paint(map) {
  const { canvas, view, points } = map;
  const scale = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (!width || !height || !points) return;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  const seen = inView(map, width, height);
  if (seen.length > FEW) paintPixels(map, pen, seen, scale);
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  if (seen.length <= FEW) paintDiscs(map, pen, seen);
  paintLit(map, pen, seen);
  paintNames(map, pen, seen, width, height);
  if (map.keyed) paintAim(map, pen, width, height);
  canvas.dataset.seen = seen.length; // how many sides are in view, for whoever looks from outside
  canvas.dataset.zoom = (view.k / fitting(map)).toFixed(2);
}

const screenX = (map, i) => (map.points.xy[2 * i] - map.view.x) * across(map) + map.canvas.clientWidth / 2;
const screenY = (map, i) => (map.view.y - map.points.xy[2 * i + 1]) * map.view.k + map.canvas.clientHeight / 2;

function inView(map, width, height) {
  const { xy, count } = map.points;
  const [halfW, halfH] = [(width / 2 + 6) / across(map), (height / 2 + 6) / map.view.k];
  const { x, y } = map.view;
  const seen = new Uint32Array(count);
  let n = 0;
  for (let i = 0; i < count; i++) if (Math.abs(xy[2 * i] - x) < halfW && Math.abs(xy[2 * i + 1] - y) < halfH) seen[n++] = i;
  return seen.subarray(0, n);
}

// A thousand points on one pixel are darker than one: each adds a part of its colour.
function paintPixels(map, pen, seen, scale) {
  const { canvas } = map;
  const image = pen.createImageData(canvas.width, canvas.height);
  const { data } = image;
  const [w, h] = [canvas.width, canvas.height];
  const size = Math.max(1, Math.round(scale * (seen.length > 40000 ? 1.2 : 2)));
  const searching = map.lit !== null;
  for (const i of seen) {
    const colour = map.rgb[map.shade[i]];
    const part = searching ? 0.16 : map.grey[map.shade[i]] ? 0.22 : 0.6;
    const [left, top] = [Math.round(screenX(map, i) * scale), Math.round(screenY(map, i) * scale)];
    for (let y = Math.max(0, top); y < Math.min(h, top + size); y++)
      for (let x = Math.max(0, left); x < Math.min(w, left + size); x++) {
        const at = 4 * (y * w + x);
        const had = data[at + 3] / 255;
        const now = part + had * (1 - part);
        for (let c = 0; c < 3; c++) data[at + c] = (colour[c] * part + data[at + c] * had * (1 - part)) / now;
        data[at + 3] = now * 255;
      }
  }
  pen.putImageData(image, 0, 0);
}

function radius(map, seen) {
  return seen.length > 1500 ? 2.2 : seen.length > 300 ? 3.2 : 4.5;
}

function paintDiscs(map, pen, seen) {
  const r = radius(map, seen);
  for (let shade = 0; shade < map.rgb.length; shade++) {
    pen.fillStyle = `rgb(${map.rgb[shade].join()})`;
    pen.globalAlpha = map.lit !== null ? 0.3 : map.grey[shade] ? 0.45 : 0.8;
    pen.beginPath();
    for (const i of seen) {
      if (map.shade[i] !== shade) continue;
      const [x, y] = [screenX(map, i), screenY(map, i)];
      pen.moveTo(x + r, y);
      pen.arc(x, y, r, 0, 7);
    }
    pen.fill();
  }
  pen.globalAlpha = 1;
}

// What a search found: above everything, in the colour of what is selected.
function paintLit(map, pen, seen) {
  if (map.lit === null) return;
  pen.fillStyle = map.colours.selection;
  pen.strokeStyle = map.colours.ground;
  pen.lineWidth = 1;
  const r = Math.max(3.2, radius(map, seen));
  for (const i of seen) {
    if (!map.lit.has(i)) continue;
    pen.beginPath();
    pen.arc(screenX(map, i), screenY(map, i), r, 0, 7);
    pen.fill();
    pen.stroke();
  }
}

// Greedy from the most important on: a name that would cover another waits for more zoom.
function paintNames(map, pen, seen, width, height) {
  const taken = [[width - 52, 0, width, 112]]; // the zoom buttons
  const zoom = map.view.k / fitting(map);
  const most = 24 + Math.round(22 * zoom);
  map.shown = [];
  pen.textBaseline = "middle";
  pen.lineJoin = "round";
  const place = (text, x, y, font, colour, align) => {
    pen.font = font;
    const w = pen.measureText(text).width;
    const half = parseFloat(font.match(/([\d.]+)px/)[1]) * 0.62;
    const left = align === "left" ? x : x - w / 2;
    const box = [left - 4, y - half - 2, left + w + 4, y + half + 2];
    if (box[0] < 2 || box[1] < 2 || box[2] > width - 2 || box[3] > height - 2) return false;
    if (taken.some((one) => one[0] < box[2] && box[0] < one[2] && one[1] < box[3] && box[1] < one[3])) return false;
    taken.push(box);
    pen.textAlign = "left";
    pen.lineWidth = 4;
    pen.strokeStyle = map.colours.ground;
    pen.strokeText(text, left, y);
    pen.fillStyle = colour;
    pen.fillText(text, left, y);
    map.shown.push({ text, box });
    return true;
  };
  const family = map.colours.font;
  for (const label of map.data.labels) {
    if (map.shown.length >= most) break;
    const [x, y] = [(label.x - map.view.x) * across(map) + width / 2, (map.view.y - label.y) * map.view.k + height / 2];
    if (x < 0 || y < 0 || x > width || y > height) continue;
    const font = label.kind === "field" ? `600 15px ${family}` : `500 12px ${family}`;
    place(label.text, x, y, font, label.kind === "field" ? map.colours.text : map.colours.muted, "centre");
  }
  const named = seen.length <= NAMED ? [...seen] : map.lit === null ? [] : map.data.best.filter((i) => near(map, i, width, height));
  const r = radius(map, seen) + 4;
  for (const i of named) {
    const { name, headline } = told(map, i);
    place(headline ? `${name} ${headline}` : name, screenX(map, i) + r, screenY(map, i), `400 11.5px ${family}`, map.colours.text, "left");
  }
  map.canvas.dataset.names = map.shown.map((one) => one.text).join("\n");
}

function near(map, i, width, height) {
  const [x, y] = [screenX(map, i), screenY(map, i)];
  return x >= 0 && y >= 0 && x <= width && y <= height;
}

// Where the keyboard aims: the middle, and a ring around the side nearest to it.
function paintAim(map, pen, width, height) {
  pen.strokeStyle = map.colours.selection;
  pen.lineWidth = 1.5;
  pen.beginPath();
  pen.moveTo(width / 2 - 9, height / 2);
  pen.lineTo(width / 2 + 9, height / 2);
  pen.moveTo(width / 2, height / 2 - 9);
  pen.lineTo(width / 2, height / 2 + 9);
  pen.stroke();
  if (map.aimed === null) return;
  pen.beginPath();
  pen.arc(screenX(map, map.aimed), screenY(map, map.aimed), 8, 0, 7);
  pen.stroke();
}
