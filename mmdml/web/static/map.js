'use strict';
// The map of a gallery on a canvas: a click shows the picture of the nearest point.

(() => {
  const MARGIN = 24;
  const element = (id) => document.getElementById(id);
  const canvas = element('points');
  const context = canvas.getContext('2d');
  const store = element('map').dataset.store;
  const view = { x: 0.5, y: 0.5, zoom: 1 };
  let map = { points: [], labels: [], width: 1, height: 1 };
  let chosen = null;
  let wanted = element('map').dataset.method;

  // --- Drawing --------------------------------------------------------------------------------------------------------

  // Pixels for a unit: at zoom 1 all points are inside the margins.
  const scale = () => view.zoom * Math.min(
    (canvas.clientWidth - 2 * MARGIN) / map.width,
    (canvas.clientHeight - 2 * MARGIN) / map.height,
  );
  const toScreen = (point) => [
    canvas.clientWidth / 2 + (point[1] - view.x) * scale(),
    canvas.clientHeight / 2 - (point[2] - view.y) * scale(),
  ];

  // Hues by the golden angle: labels that follow each other differ most.
  function color(label, dark) {
    if (label < 0) return dark ? '#9aa2a8' : '#7a8288';
    return `hsl(${(label * 137.508) % 360} ${62 + 12 * (label % 3)}% ${(dark ? 58 : 40) + 7 * (label % 2)}%)`;
  }

  function draw() {
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
    context.scale(ratio, ratio);
    const dark = window.matchMedia('(prefers-color-scheme: dark)').matches;
    const highlight = element('highlight').value === '' ? null : Number(element('highlight').value);
    const radius = map.points.length > 1500 ? 3 : 5;
    for (const strong of [false, true]) {
      for (const point of map.points) {
        if ((highlight === null || point[3] === highlight) !== strong) continue;
        const [x, y] = toScreen(point);
        if (x < -9 || y < -9 || x > canvas.clientWidth + 9 || y > canvas.clientHeight + 9) continue;
        context.globalAlpha = strong ? 0.85 : 0.15;
        context.fillStyle = color(point[3], dark);
        context.beginPath();
        context.arc(x, y, radius, 0, 7);
        context.fill();
      }
    }
    context.globalAlpha = 1;
    if (chosen) {
      const [x, y] = toScreen(chosen);
      context.strokeStyle = getComputedStyle(document.body).color;
      context.lineWidth = 3;
      context.beginPath();
      context.arc(x, y, radius + 5, 0, 7);
      context.stroke();
    }
  }

  // --- Choosing -------------------------------------------------------------------------------------------------------

  async function choose(point) {
    chosen = point;
    draw();
    element('chosen').hidden = !point;
    if (!point) return;
    const address = `/?row=${encodeURIComponent(`${store}:${point[0]}`)}`;
    element('chosen-picture').src = `/pictures/${store}/${point[0]}`;
    element('chosen-link').href = address;
    element('chosen-more').href = address;
    element('chosen-label').textContent = point[3] < 0 ? '' : map.labels[point[3]];
    element('chosen-picture').alt = element('chosen-label').textContent;
    element('chosen-name').textContent = '';
    const answer = await fetch(`/api/stores/${store}/rows/${point[0]}`);
    if (!answer.ok || chosen !== point) return;
    const row = await answer.json();
    element('chosen-name').textContent = row.path.split('/').pop();
    element('chosen-name').title = row.path;
  }

  function nearest(x, y, reach) {
    let best = null;
    for (const point of map.points) {
      const [left, top] = toScreen(point);
      const distance = Math.hypot(left - x, top - y);
      if (distance < reach) {
        reach = distance;
        best = point;
      }
    }
    return best;
  }

  function next(key) {
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
    const from = chosen ? toScreen(chosen) : [canvas.clientWidth / 2, canvas.clientHeight / 2];
    let best = null;
    let least = Infinity;
    for (const point of map.points) {
      if (point === chosen) continue;
      const [x, y] = toScreen(point);
      const along = (x - from[0]) * dx + (y - from[1]) * dy;
      const aside = Math.abs((x - from[0]) * dy) + Math.abs((y - from[1]) * dx);
      if (along > 0.01 && along + 2 * aside < least) {
        least = along + 2 * aside;
        best = point;
      }
    }
    return best;
  }

  function zoom(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
    const before = scale();
    view.zoom = Math.min(Math.max(view.zoom * factor, 1), 60);
    const change = 1 / before - 1 / scale();
    view.x += (x - canvas.clientWidth / 2) * change;
    view.y -= (y - canvas.clientHeight / 2) * change;
    draw();
  }

  function showAll() {
    Object.assign(view, { x: 0.5, y: 0.5, zoom: 1 });
    draw();
  }

  let drag = null;
  canvas.addEventListener('pointerdown', (event) => {
    canvas.setPointerCapture(event.pointerId);
    drag = { x: event.offsetX, y: event.offsetY, moved: false };
  });
  canvas.addEventListener('pointermove', (event) => {
    canvas.style.cursor = nearest(event.offsetX, event.offsetY, 14) ? 'pointer' : 'grab';
    if (!drag) return;
    const [dx, dy] = [event.offsetX - drag.x, event.offsetY - drag.y];
    if (!drag.moved && Math.hypot(dx, dy) < 5) return;
    view.x -= dx / scale();
    view.y += dy / scale();
    drag = { x: event.offsetX, y: event.offsetY, moved: true };
    draw();
  });
  canvas.addEventListener('pointerup', (event) => {
    if (drag && !drag.moved) choose(nearest(event.offsetX, event.offsetY, 22));
    drag = null;
  });
  canvas.addEventListener('pointercancel', () => {
    drag = null;
  });
  canvas.addEventListener('wheel', (event) => {
    event.preventDefault();
    zoom(event.deltaY < 0 ? 1.25 : 0.8, event.offsetX, event.offsetY);
  }, { passive: false });
  canvas.addEventListener('keydown', (event) => {
    const keys = { '+': () => zoom(1.25), '-': () => zoom(0.8), 0: showAll, Escape: () => choose(null) };
    if (event.key.startsWith('Arrow')) choose(next(event.key) || chosen);
    else if (event.key === 'Enter' && chosen) window.location.href = element('chosen-more').href;
    else if (keys[event.key]) keys[event.key]();
    else return;
    event.preventDefault();
  });
  element('zoom-in').addEventListener('click', () => zoom(1.5));
  element('zoom-out').addEventListener('click', () => zoom(1 / 1.5));
  element('zoom-all').addEventListener('click', showAll);
  element('close').addEventListener('click', () => choose(null));
  element('highlight').addEventListener('change', draw);
  window.addEventListener('resize', draw);
  window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
  if (element('store')) element('store').addEventListener('change', (event) => event.target.form.submit());
  if (element('method')) {
    element('method').addEventListener('change', (event) => {
      wanted = event.target.value;
      load();
    });
  }

  // --- Loading --------------------------------------------------------------------------------------------------------

  async function load() {
    const method = wanted;
    const about = element('map-about');
    const answer = await fetch(`/api/stores/${store}/map?method=${method}`);
    if (method !== wanted) return;
    const found = await answer.json();
    if (answer.status === 202) {
      about.textContent = `${method.toUpperCase()} is being computed …`;
      setTimeout(load, 500);
      return;
    }
    if (!answer.ok) {
      about.textContent = found.error;
      return;
    }
    map = found;
    [map.width, map.height] = [1, 2].map((axis) => {
      const values = map.points.map((point) => point[axis]);
      return Math.max(Math.max(...values) - Math.min(...values), 0.05);
    });
    const select = element('highlight');
    const kept = select.value;
    select.replaceChildren(new Option('all', ''), ...map.labels.map((label, number) => new Option(label, number)));
    select.value = kept;
    const shown = map.points.length.toLocaleString('en-US');
    const all = map.count.toLocaleString('en-US');
    about.textContent = `${shown === all ? all : `${shown} of ${all}`} pictures · ${map.about}`;
    canvas.dataset.method = method;
    choose(null);
    showAll();
  }

  load();
})();
