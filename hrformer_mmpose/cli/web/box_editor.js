// Picture on which boxes are drawn by dragging, and deleted by their buttons.
// Runs in Gradio's HTML component: `element`, `props`, `watch` and `trigger` are given.
// props.value: {src, width, height, boxes: [[x0, y0, x1, y1], ...]}, boxes in pixels of the image.

const stage = element.querySelector('.box-editor');
const picture = stage.querySelector('img');
const layer = stage.querySelector('.boxes');
const SMALLEST = 8; // pixels of the screen; a shorter drag is a click
let start = null;
let rubber = null;
let pressed = null;

function show() {
    const value = props.value || {};
    stage.classList.toggle('has-picture', Boolean(value.src));
    if (!value.src) {
        picture.removeAttribute('src');
        layer.replaceChildren();
        return;
    }
    if (picture.getAttribute('src') !== value.src) {
        picture.src = value.src;
    }
    layer.replaceChildren(...value.boxes.map((box, index) => frame(box, value, index)));
}

function frame(box, value, index) {
    const item = document.createElement('div');
    item.className = 'box';
    place(item, box, value);
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = '×';
    button.title = `Remove person ${index + 1}`;
    button.setAttribute('aria-label', button.title);
    button.addEventListener('click', () => send(value.boxes.filter((_, other) => other !== index)));
    item.append(button);
    return item;
}

function place(item, [x0, y0, x1, y1], { width, height }) {
    const percent = (part, whole) => `${(100 * Math.min(Math.max(part, 0), whole)) / whole}%`;
    item.style.left = percent(x0, width);
    item.style.top = percent(y0, height);
    item.style.right = percent(width - x1, width);
    item.style.bottom = percent(height - y1, height);
}

function send(boxes) {
    props.value = { ...props.value, boxes };
    trigger('input');
}

function position(event) {
    const { left, top, width, height } = picture.getBoundingClientRect();
    const within = (value) => Math.min(Math.max(value, 0), 1);
    return [
        within((event.clientX - left) / width) * props.value.width,
        within((event.clientY - top) / height) * props.value.height,
    ];
}

function corners(a, b) {
    return [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1])];
}

stage.addEventListener('pointerdown', (event) => {
    if (!props.value?.src || event.button !== 0) {
        return;
    }
    event.preventDefault();
    pressed = event.target.closest('button'); // a drag may begin on it
    stage.setPointerCapture(event.pointerId);
    start = position(event);
    rubber = document.createElement('div');
    rubber.className = 'box rubber';
    stage.append(rubber);
    place(rubber, corners(start, start), props.value);
});

stage.addEventListener('pointermove', (event) => {
    if (rubber) {
        place(rubber, corners(start, position(event)), props.value);
    }
});

stage.addEventListener('pointerup', (event) => {
    if (!rubber) {
        return;
    }
    const { width, height } = rubber.getBoundingClientRect();
    const box = corners(start, position(event)).map((value) => Math.round(10 * value) / 10);
    end();
    if (width >= SMALLEST && height >= SMALLEST) {
        send([...props.value.boxes, box]);
        show(); // the box, while its pose is being estimated
    } else {
        pressed?.click(); // the browser sends the click to the stage, which captured the pointer
    }
});

stage.addEventListener('pointercancel', end);

function end() {
    rubber?.remove();
    rubber = start = null;
}

watch('value', show);
show();
