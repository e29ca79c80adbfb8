// The strip's tooltip: what the model thought at a token before it took it. Read together with strip.js, as one module.

// Characters that are seen as nothing: controls, zero widths, directions, fillers, tags. A joiner within an emoji is seen: it joins.
const HIDDEN = /[\p{Cf}\u0000-\u0008\u000b-\u001f\u007f-\u009f\u115f\u1160\u2028\u2029\u3164\uffa0]/u;
const JOINED = /[\p{Extended_Pictographic}\p{Emoji_Modifier}\ufe0f]/u;
const hidden = (character, before) => HIDDEN.test(character) && !(character === "\u200d" && JOINED.test(before));

function element(tag, className, parent, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  if (parent) parent.appendChild(node);
  return node;
}

function showTip(strip, i) {
  const { data, tip, spans } = strip;
  const stop = stopOf(strip, i);
  if (strip.tipFor !== i || strip.tipData !== data) {
    strip.tipFor = i;
    strip.tipData = data;
    tip.replaceChildren();
    element("div", "what", tip, visibleText(data.text[i]) || "∅");
    const tokens = stop - i > 1 ? `tokens ${i}–${stop - 1}, ids ${data.ids.slice(i, stop).join(", ")}` : `token ${i}, id ${data.ids[i]}`;
    element("div", "facts", tip, tokens);
    const probability = data.prob[i];
    if (i === 0) element("div", "facts", tip, "The first token: nothing comes before it to predict it.");
    else if (probability === undefined || probability === null) element("div", "facts", tip, data.live ? "Still being written." : "No probabilities were recorded here.");
    else {
      const rank = data.rank[i];
      element("div", "facts", tip, `probability ${percent(probability)} · rank ${rank} · surprisal ${surprisal(probability)} bits`);
      if (data.note[i]) element("div", "facts", tip, data.note[i]);
      const top = data.top[i] ?? [];
      const most = top[1] || 1;
      for (let k = 0; k < top.length; k += 2) candidate(tip, data.words[top[k]], top[k + 1], most, k / 2 + 1 === rank);
      if (rank > top.length / 2) candidate(tip, data.text[i], probability, most, true);
    }
  }
  if (!tip.matches(":popover-open")) tip.showPopover();
  const box = spans[i].getClientRects()[0];
  if (!box) return hideTip(strip);
  const size = tip.getBoundingClientRect();
  const left = Math.max(6, Math.min(box.left, innerWidth - size.width - 6));
  const above = box.bottom + 8 + size.height > innerHeight && box.top > size.height + 8;
  tip.style.left = `${left}px`;
  tip.style.top = `${above ? box.top - size.height - 8 : box.bottom + 8}px`;
}

function candidate(tip, word, probability, most, taken) {
  const row = element("div", taken ? "row taken" : "row", tip);
  element("span", "word", row, visibleText(word) || "∅");
  element("span", "bar", row).style.width = `${Math.max(1, (100 * probability) / most)}%`;
  element("span", "num", row, percent(probability));
}

function hideTip(strip) {
  if (strip.tip.matches(":popover-open")) strip.tip.hidePopover();
}

// As core/percent.py says computed probabilities: what is not certain never reads 100%.
const percent = (p) => (p > 0.9995 ? "over 99.9%" : p >= 0.0995 ? `${(100 * p).toFixed(p >= 0.995 ? 1 : 0)}%` : p >= 0.001 ? `${(100 * p).toFixed(1)}%` : `${p.toExponential(0)}`);
const surprisal = (p) => (p > 0 ? Math.abs(Math.log2(p)).toFixed(1) : "∞");
const visibleText = (text) => [...text].map((c, i, all) => (c === "\n" ? "↵" : c === "\t" ? "⇥" : hidden(c, all[i - 1] ?? "") ? "�" : c === " " ? "·" : c)).join("");

