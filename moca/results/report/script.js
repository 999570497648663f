'use strict';
(() => {
  const root = document.documentElement;
  const button = document.getElementById('theme');
  const themes = ['', 'light', 'dark'];
  const names = { '': 'as the system', light: 'light', dark: 'dark' };
  const show = (theme) => {
    if (theme) root.dataset.theme = theme; else delete root.dataset.theme;
    button.textContent = `Theme: ${names[theme]}`;
  };
  let theme = '';
  try { theme = localStorage.getItem('moca-theme') || ''; } catch { /* a file may have no storage */ }
  show(themes.includes(theme) ? theme : '');
  button.addEventListener('click', () => {
    const next = themes[(themes.indexOf(root.dataset.theme || '') + 1) % themes.length];
    show(next);
    try { localStorage.setItem('moca-theme', next); } catch { /* as above */ }
  });

  const openTarget = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let node = target; node; node = node.parentElement) {
      if (node.tagName === 'DETAILS') node.open = true;
    }
    if (target) target.scrollIntoView();
  };
  addEventListener('hashchange', openTarget);
  if (location.hash) openTarget();
  let opened = [];
  addEventListener('beforeprint', () => {
    opened = [...document.querySelectorAll('details:not([open])')];
    opened.forEach((part) => { part.open = true; });
  });
  addEventListener('afterprint', () => opened.forEach((part) => { part.open = false; }));

  const table = document.getElementById('table');
  if (!table) return;
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const protocol = document.getElementById('protocol');
  const origin = document.getElementById('origin');
  const order = document.getElementById('order');
  const filter = () => {
    let count = 0;
    rows.forEach((row) => {
      row.hidden = (protocol.value && row.dataset.protocol !== protocol.value)
        || (origin.value && !row.classList.contains(origin.value));
      count += !row.hidden;
    });
    document.getElementById('shown').textContent = `${count} of ${rows.length} rows`;
    document.querySelectorAll('article.protocol').forEach((part) => {
      part.hidden = protocol.value && part.dataset.protocol !== protocol.value;
    });
  };
  protocol.addEventListener('change', filter);
  origin.addEventListener('change', filter);

  const key = (row, column) => {
    const cell = row.cells[column - 1];
    return cell.dataset.key ?? cell.textContent.trim();
  };
  const compare = new Intl.Collator('en', { numeric: true }).compare;
  // a column counted from 1, falling where it is negative; 0 for the order of the page
  const sort = (column) => {
    const place = Math.abs(column);
    const number = place === 4;
    const byPlace = (a, b) => a.dataset.place - b.dataset.place;
    const byKey = (a, b) => Math.sign(column) * (number
      ? key(a, place) - key(b, place) : compare(key(a, place), key(b, place)));
    rows.sort((a, b) => (place && byKey(a, b)) || byPlace(a, b));
    body.append(...rows);
    [...table.tHead.rows[0].cells].forEach((cell, index) => {
      const sorted = index + 1 === place ? (column > 0 ? 'ascending' : 'descending') : 'none';
      cell.setAttribute('aria-sort', sorted);
    });
  };
  let last = 0;
  table.tHead.addEventListener('click', (event) => {
    const column = Number(event.target.dataset.column);
    if (!column) return;
    last = last === column ? -column : column;
    sort(last);
    order.value = [...order.options].some((o) => o.value === String(last)) ? String(last) : '0';
  });
  order.addEventListener('change', () => { last = Number(order.value); sort(last); });
})();
