'use strict';
// Uploads by drop, paste and choice, regions by dragging, and the keyboard. All handlers are on the document: the
// contents of the page are replaced by each search.

const byId = (id) => document.getElementById(id);

// --- A picture is given -----------------------------------------------------------------------------------------------

function problem(text) {
  const line = byId('upload-error');
  if (line) line.textContent = text;
}

function send(form) {
  const file = byId('picture').files[0];
  if (!file) return;
  if (file.size > Number(form.dataset.maxBytes)) {
    problem(`${file.name} has ${(file.size / 1e6).toFixed(1)} MB; at most ${form.dataset.maxMegabytes} MB are taken.`);
    byId('picture').value = '';
    return;
  }
  problem('');
  form.requestSubmit();
}

function give(files) {
  const input = byId('picture');
  const file = [...files].find((each) => each.type.startsWith('image/')) || files[0];
  if (!input) {
    return;
  }
  if (!file) {
    problem('That is no picture file.');
    return;
  }
  const transfer = new DataTransfer();
  transfer.items.add(file);
  input.files = transfer.files;
  send(input.form);
}

document.addEventListener('change', (event) => {
  if (event.target.id === 'picture') send(event.target.form);
  else if (event.target.closest('#search')) event.target.form.requestSubmit();
});

document.addEventListener('paste', (event) => {
  if (event.clipboardData && event.clipboardData.files.length) {
    event.preventDefault();
    give(event.clipboardData.files);
  }
});

document.addEventListener('dragover', (event) => {
  if (!event.dataTransfer.types.includes('Files')) return;
  event.preventDefault();
  document.body.classList.add('dropping');
});

document.addEventListener('dragleave', (event) => {
  if (!event.relatedTarget) document.body.classList.remove('dropping');
});

document.addEventListener('drop', (event) => {
  document.body.classList.remove('dropping');
  if (!event.dataTransfer.types.includes('Files')) return;
  event.preventDefault();
  give(event.dataTransfer.files);
});

document.addEventListener('htmx:responseError', () => {
  if (byId('picture')) byId('picture').value = '';
});
document.addEventListener('htmx:sendError', () => problem('The server cannot be reached.'));

// --- A region of it ---------------------------------------------------------------------------------------------------

let start = null;

function place(event) {
  const area = byId('query-picture').getBoundingClientRect();
  const share = (value, low, size) => Math.min(Math.max((value - low) / size, 0), 1);
  return [share(event.clientX, area.left, area.width), share(event.clientY, area.top, area.height)];
}

function region(from, to) {
  const left = Math.min(from[0], to[0]);
  const top = Math.min(from[1], to[1]);
  return [left, top, Math.abs(from[0] - to[0]), Math.abs(from[1] - to[1])];
}

function show(values) {
  const box = byId('box');
  ['left', 'top', 'width', 'height'].forEach((name, number) => {
    box.style[name] = `${100 * values[number]}%`;
  });
  box.hidden = false;
}

function showChosen() {
  const value = byId('crop-value');
  if (value && value.value && byId('box')) show(value.value.split(',').map(Number));
}

document.addEventListener('pointerdown', (event) => {
  const area = event.target.closest('#crop');
  if (!area || event.button) return;
  event.preventDefault();
  area.setPointerCapture(event.pointerId);
  start = place(event);
});

document.addEventListener('pointermove', (event) => {
  if (start) show(region(start, place(event)));
});

document.addEventListener('pointerup', (event) => {
  if (!start) return;
  const chosen = region(start, place(event));
  start = null;
  if (chosen[2] < 0.03 || chosen[3] < 0.03) {
    byId('box').hidden = true;
    showChosen();
    return;
  }
  byId('crop-value').value = chosen.map((each) => each.toFixed(4)).join(',');
  byId('search').requestSubmit();
});

document.addEventListener('pointercancel', () => {
  start = null;
});

document.addEventListener('htmx:afterSettle', showChosen);
document.addEventListener('DOMContentLoaded', showChosen);

// --- The keyboard -----------------------------------------------------------------------------------------------------

function move(key) {
  const cards = [...document.querySelectorAll('.card .picture')];
  if (!cards.length) return false;
  const current = document.activeElement.closest && document.activeElement.closest('.card');
  if (!current) {
    cards[0].focus();
    return true;
  }
  const from = current.getBoundingClientRect();
  const index = cards.indexOf(current.querySelector('.picture'));
  let next = index + { ArrowLeft: -1, ArrowRight: 1 }[key];
  if (key === 'ArrowUp' || key === 'ArrowDown') {
    const sign = key === 'ArrowDown' ? 1 : -1;
    const ahead = cards
      .map((each, number) => [each.closest('.card').getBoundingClientRect(), number])
      .filter(([box]) => sign * (box.top - from.top) > 4 && Math.abs(box.left - from.left) < 4);
    ahead.sort((one, other) => sign * (one[0].top - other[0].top));
    next = ahead.length ? ahead[0][1] : index;
  }
  if (cards[next]) cards[next].focus();
  return true;
}

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest('input, select, textarea, canvas')) return;
  const card = event.target.closest('.card');
  if (event.key === 'u' && byId('picture')) byId('picture').click();
  else if (event.key === '/' && byId('label')) byId('label').focus();
  else if (event.key.startsWith('Arrow') && (card || event.target === document.body)) {
    if (event.target === document.body && !['ArrowRight', 'ArrowLeft'].includes(event.key)) return;
    if (!move(event.key)) return;
  } else if ((event.key === 'y' || event.key === 'n') && card) {
    const button = card.querySelector(event.key === 'y' ? '.mark .right' : '.mark .wrong');
    if (!button) return;
    button.click();
    card.querySelector('.picture').focus();
  } else return;
  event.preventDefault();
});
