// The interface. What comes from the run is in the element `words`, and becomes text only.

const TOO_OLD = 'This browser is too old to draw the images: '
  + 'Chrome or Edge 97, Firefox 113, Safari 16.4, or a newer one will do.';
const DAMAGED = 'This file is damaged, so no images can be drawn. '
  + 'Fetch it again where it came from.';
const COUNTS = [1, 4, 9, 16, 25, 36, 49, 64, 100]; // of images in the grid
const SECONDS = 2.5; // from one image to the next
const SAVED_SIDE = {grid: 1024, image: 512}; // pixels that a saved file is enlarged to at most

const $ = id => document.getElementById(id);
const isStill = matchMedia('(prefers-reduced-motion: reduce)');

/** Return a new element with these properties and children. */
function element(name, properties = {}, ...children) {
  const result = Object.assign(document.createElement(name), properties);
  result.append(...children);
  return result;
}

/** Show a problem in place of the images. */
function fail(text) {
  $('main').hidden = true;
  $('problem').textContent = text;
  $('problem').hidden = false;
  $('problem').classList.remove('late');
}

/** Start the page, once all of it is here. */
function start() {
  const has = 'DecompressionStream' in window && 'findLastIndex' in Array.prototype;
  if (!has) return fail(TOO_OLD);
  let words, worker;
  try {
    words = JSON.parse($('words').textContent);
  } catch {
    return fail(DAMAGED);
  }
  try {
    const script = new Blob([$('engine').textContent], {type: 'text/javascript'});
    worker = new Worker(URL.createObjectURL(script));
  } catch {
    return fail(TOO_OLD);
  }
  worker.onerror = () => fail(DAMAGED);
  new Page(words, worker);
  worker.postMessage({packed: $('generator')?.textContent ?? ''});
  $('generator')?.remove(); // the worker has it now
}

class Page {
  constructor(words, worker) {
    Object.assign(this, {words, worker, latents: [], buttons: []});
    Object.assign(this, {held: null, leg: null, walking: false});
    this.newest = {grid: 0, image: 0}; // the last drawing of each that was asked for
    this.showWords();
    this.makeControls();
    this.resize($('image'));
    worker.onmessage = ({data}) => this.receive(data);
    this.drawSeed(0n);
  }

  // Words and controls

  showWords() {
    const {title, lead, facts} = this.words;
    document.title = $('title').textContent = title;
    $('lead').textContent = lead;
    for (const [name, text] of facts) {
      $('facts').append(element('dt', {textContent: name}), element('dd', {textContent: text}));
    }
    $('problem').hidden = true;
    $('main').hidden = false;
  }

  makeControls() {
    const {count, classes, classesName, directions, reach} = this.words;
    for (const n of COUNTS) $('count').append(new Option(n, n, n === count, n === count));
    if (classes.length) {
      $('digit-row').hidden = false;
      $('digit-name').textContent = classesName;
      const names = ['any', ...classes.map(choice => choice.name)];
      $('digit').append(...names.map(name => new Option(name)));
    }
    directions.forEach((_, i) => {
      const input = element('input', {
        type: 'range', min: -reach, max: reach, step: 0.1, defaultValue: 0,
        id: `direction-${i + 1}`,
      });
      const name = element('span', {textContent: `Direction ${i + 1}`});
      const value = element('span', {className: 'value', textContent: '0.0'});
      value.setAttribute('aria-hidden', 'true'); // the slider says it itself
      $('directions').append(element('label', {className: 'slider'}, name, input, value));
    });
    $('directions-hint').hidden = !directions.length;
    this.sliders = [...$('directions').querySelectorAll('input')];

    $('seed-form').addEventListener('submit', event => event.preventDefault());
    $('seed').addEventListener('change', () => {
      if ($('seed').reportValidity()) this.drawSeed(BigInt($('seed').value));
    });
    $('again').addEventListener('click', () => this.drawSeed(this.seed + 1n));
    $('count').addEventListener('change', () => this.drawSeed(this.seed));
    $('sliders').addEventListener('input', () => this.showChange());
    $('sliders').addEventListener('reset', () => setTimeout(() => this.showChange())); // afterwards
    $('grid').addEventListener('keydown', event => this.moveFocus(event));
    $('walk').addEventListener('click', () => this.setWalking(!this.walking));
    $('save-grid').addEventListener('click', () => this.saveGrid());
    $('save-image').addEventListener('click', () => this.saveImage());
  }

  /** Show where the sliders stand, and what that makes of the images. */
  showChange() {
    for (const input of $('sliders').querySelectorAll('input')) {
      const digits = input.step === '0.1' ? 1 : 2;
      input.nextElementSibling.textContent = Number(input.value).toFixed(digits);
    }
    this.drawLarge();
    this.drawGrid();
  }

  // Latents

  /** Return a latent, that of an image with that number, as the sliders change it. */
  changed(latent, number) {
    const {classes, categories, directions} = this.words;
    const chosen = classes[$('digit').selectedIndex - 1];
    if (chosen) {
      const category = chosen.categories[number % chosen.categories.length];
      latent = inCategory(latent, category, categories);
    }
    const steps = this.sliders.map(input => Number(input.value));
    return moved(latent, Number($('truncation').value), directions, steps);
  }

  /** Draw the images of a seed, a BigInt; the first is held if none is yet. */
  drawSeed(seed) {
    this.seed = seed;
    $('seed').value = seed;
    const count = Number($('count').value);
    this.latents = latentsOf(this.seed, count, this.words.zDim);
    this.makeGrid(count);
    this.drawGrid();
    if (!this.held) this.hold(0, false);
    this.markHeld();
  }

  drawGrid() {
    this.ask('grid', this.latents.map((latent, i) => this.changed(latent, i)));
  }

  drawLarge() {
    const {latent, number} = this.leg ? this.onTheWay() : this.held;
    this.ask('image', [this.changed(latent, number)]);
  }

  /** Ask the worker for images; what it still draws under that name is forgotten. */
  ask(name, latents) {
    $(name).setAttribute('aria-busy', 'true');
    const all = new Float32Array(latents.length * this.words.zDim);
    latents.forEach((latent, i) => all.set(latent, i * this.words.zDim));
    const job = {name, id: ++this.newest[name], latents: all, count: latents.length};
    this.worker.postMessage(job, [all.buffer]);
  }

  /** Show what the worker has drawn. */
  receive({problem, name, id, first, count, pixels, done}) {
    if (problem) return fail(DAMAGED);
    if (id !== this.newest[name]) return;
    const size = pixels.length / count;
    const canvases = name === 'image' ? [$('image')] : this.canvases();
    for (let i = 0; i < count; i++) {
      this.paint(canvases[first + i], pixels.subarray(i * size, (i + 1) * size));
    }
    if (done) $(name).setAttribute('aria-busy', 'false');
    if (name === 'grid' && done) {
      const images = this.latents.length === 1 ? 'The image' : `${this.latents.length} images`;
      $('state').textContent = `${images} of seed ${this.seed}`;
    }
    if (name === 'image' && this.walking) this.goOn();
  }

  // The grid

  resize(canvas) {
    [canvas.height, canvas.width] = this.words.shape;
  }

  paint(canvas, pixels) {
    const [height, width, channels] = this.words.shape;
    const image = new ImageData(width, height);
    for (let i = 0; i < height * width; i++) {
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = pixels[i * channels + (c % channels)];
      image.data[4 * i + 3] = 255;
    }
    // Without a GPU, which is slower for images so small
    const context = canvas.getContext('2d', {willReadFrequently: true});
    context.putImageData(image, 0, 0);
  }

  canvases() {
    return this.buttons.map(button => button.firstChild);
  }

  makeGrid(count) {
    if (this.buttons.length === count) return; // the old images stay until new ones are drawn
    this.buttons = Array.from({length: count}, (_, i) => {
      const canvas = element('canvas');
      this.resize(canvas);
      const properties = {type: 'button', className: 'image', tabIndex: i ? -1 : 0};
      const button = element('button', properties, canvas);
      button.setAttribute('aria-label', `Image ${i + 1}`);
      button.addEventListener('click', () => this.hold(i));
      return button;
    });
    $('grid').replaceChildren(...this.buttons);
    $('grid').style.setProperty('--columns', Math.sqrt(count));
  }

  moveFocus(event) {
    const here = this.buttons.indexOf(document.activeElement);
    const columns = Math.sqrt(this.buttons.length), last = this.buttons.length - 1;
    const to = {
      ArrowLeft: here - 1, ArrowRight: here + 1, ArrowUp: here - columns, ArrowDown: here + columns,
      Home: 0, End: last,
    }[event.key];
    if (to === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    if (to >= 0 && to <= last) this.focusOn(to);
  }

  focusOn(number) {
    for (const button of this.buttons) button.tabIndex = -1; // the grid is one stop of the Tab key
    this.buttons[number].tabIndex = 0;
    this.buttons[number].focus();
  }

  // The held image and the walk

  imageOfGrid(number) {
    const {seed, latents} = this, name = `Image ${number + 1} of seed ${seed}`;
    return {latent: latents[number], number, seed, name};
  }

  hold(number, isChosen = true) {
    this.setWalking(false);
    this.held = this.imageOfGrid(number);
    const {name} = this.held;
    this.leg = null;
    $('held-name').textContent = name;
    this.markHeld();
    this.drawLarge();
    if (isChosen) {
      this.focusOn(number);
      $('state').textContent = `${name} is held`;
    }
  }

  markHeld() {
    this.buttons.forEach((button, i) => {
      button.setAttribute('aria-pressed', this.held.seed === this.seed && this.held.number === i);
    });
  }

  setWalking(walking) {
    if (walking === this.walking) return;
    this.walking = walking;
    $('walk').textContent = walking ? 'Pause walk' : 'Play walk';
    $('state').textContent = walking ? 'Walking' : 'The walk pauses';
    if (!walking) return;
    if (!this.leg) this.startLeg(this.held);
    this.before = performance.now();
    this.goOn();
  }

  /** Take the next step of the walk, as long as the time since the last one. */
  goOn() {
    requestAnimationFrame(now => {
      if (!this.walking) return;
      const share = (now - this.before) / 1000 / SECONDS;
      if (isStill.matches) { // without motion: the images of the grid themselves, one after another
        if (share < 1) return void setTimeout(() => this.goOn(), 100);
        this.leg.share = 1;
      } else {
        this.leg.share += Math.max(share, 0);
      }
      this.before = now;
      if (this.leg.share >= 1) this.startLeg(this.leg.to);
      this.drawLarge();
    });
  }

  startLeg(from) {
    const number = from.seed === this.seed ? (from.number + 1) % this.latents.length : 0;
    this.leg = {from, to: this.imageOfGrid(number), share: 0};
    $('held-name').textContent = `From ${from.name.toLowerCase()} to image ${number + 1}`;
  }

  onTheWay() {
    const {from, to, share} = this.leg;
    return {latent: slerp(from.latent, to.latent, share, this.words.kept), number: from.number};
  }

  // Files

  saveImage() {
    save(enlarged([$('image')], 1, SAVED_SIDE.image), `${$('held-name').textContent}.png`);
  }

  saveGrid() {
    const canvases = this.canvases();
    save(enlarged(canvases, Math.sqrt(canvases.length), SAVED_SIDE.grid), `Seed ${this.seed}.png`);
  }
}

/** Return a canvas with canvases in rows of `columns`, as many whole times as large as fits a side. */
function enlarged(canvases, columns, side) {
  const {width, height} = canvases[0], fitting = side / (columns * Math.max(width, height));
  const factor = Math.max(1, Math.floor(fitting)), w = width * factor, h = height * factor;
  const result = element('canvas', {width: columns * w, height: columns * h});
  const context = result.getContext('2d');
  context.imageSmoothingEnabled = false;
  canvases.forEach((canvas, i) => {
    context.drawImage(canvas, (i % columns) * w, Math.floor(i / columns) * h, w, h);
  });
  return result;
}

/** Let the reader save a canvas as a PNG file. */
function save(canvas, name) {
  canvas.toBlob(blob => {
    const download = name.toLowerCase().replaceAll(' ', '-');
    const link = element('a', {href: URL.createObjectURL(blob), download});
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  });
}

document.addEventListener('DOMContentLoaded', start);
