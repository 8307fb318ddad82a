// Reading, resizing and saving images. An image is {height, width, data: Uint8Array of RGB}.

export const MOST_PIXELS = 16e6; // what canvases of every browser hold

/** The pixels of a canvas. */
export function readCanvas(canvas) {
  const {width, height} = canvas;
  const rgba = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  const data = new Uint8Array(height * width * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    data[to++] = rgba[from];
    data[to++] = rgba[from + 1];
    data[to++] = rgba[from + 2];
  }
  return {height, width, data};
}

export function toImageData({height, width, data}) {
  const pixels = new ImageData(width, height);
  for (let from = 0, to = 0; from < data.length; to += 4) {
    pixels.data[to] = data[from++];
    pixels.data[to + 1] = data[from++];
    pixels.data[to + 2] = data[from++];
    pixels.data[to + 3] = 255;
  }
  return pixels;
}

/** Shows an image in a canvas, which takes its size. */
export function showImage(canvas, image) {
  if (canvas.width !== image.width || canvas.height !== image.height)
    Object.assign(canvas, {width: image.width, height: image.height});
  canvas.getContext("2d").putImageData(toImageData(image), 0, 0);
}

/** Anything that a canvas draws, in an area {x, y, width, height} of it or whole => the image, over white. */
export function grab(source, size, area = {x: 0, y: 0, ...size}) {
  const canvas = Object.assign(document.createElement("canvas"), {width: size.width, height: size.height});
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.fillStyle = "white";
  context.fillRect(0, 0, size.width, size.height);
  context.drawImage(source, area.x, area.y, area.width, area.height, 0, 0, size.width, size.height);
  return readCanvas(canvas);
}

/** A file => its image, upright, reduced to MOST_PIXELS. Throws if the browser cannot read it. */
export async function readFile(file) {
  const bitmap = await createImageBitmap(file);
  const {width, height} = bitmap;
  const scale = Math.min(1, Math.sqrt(MOST_PIXELS / (width * height)));
  const size = {width: Math.max(1, Math.floor(width * scale)), height: Math.max(1, Math.floor(height * scale))};
  const image = grab(bitmap, size, {x: 0, y: 0, width, height});
  bitmap.close();
  return {...image, reduced: scale < 1};
}

/** A data: URL of the page => its image. */
export async function readUrl(url) {
  const element = new Image();
  element.src = url;
  await element.decode();
  return grab(element, {width: element.naturalWidth, height: element.naturalHeight});
}

/** The largest area in the middle of `height` x `width` with an aspect (width / height). */
export function middle(height, width, aspect) {
  const w = Math.max(1, Math.min(width, Math.round(height * aspect)));
  const h = Math.max(1, Math.min(height, Math.round(width / aspect)));
  return {x: Math.floor((width - w) / 2), y: Math.floor((height - h) / 2), width: w, height: h};
}

export function crop(image, {x, y, width, height}) {
  if (width === image.width && height === image.height) return image;
  const data = new Uint8Array(height * width * 3);
  for (let row = 0; row < height; row++) {
    const from = ((y + row) * image.width + x) * 3;
    data.set(image.data.subarray(from, from + width * 3), row * width * 3);
  }
  return {height, width, data};
}

/** The cubic kernel of Pillow, a = -0.5, at a distance x >= 0. */
function cubic(x) {
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  if (x < 2) return ((-0.5 * x + 2.5) * x - 4) * x + 2;
  return 0;
}

/** Where each of `size` pixels looks at `from` pixels, with what weights: as Pillow's bicubic does. */
function bicubic(from, size) {
  const scale = from / size;
  const stretch = Math.max(1, scale);
  const support = 2 * stretch;
  return Array.from({length: size}, (_, i) => {
    const centre = (i + 0.5) * scale;
    const start = Math.max(0, Math.floor(centre - support + 0.5));
    const length = Math.min(from, Math.floor(centre + support + 0.5)) - start;
    const weights = Array.from({length}, (_, k) => cubic(Math.abs((start + k - centre + 0.5) / stretch)));
    const sum = weights.reduce((a, b) => a + b);
    return {start, weights: weights.map(weight => weight / sum)};
  });
}

/** Resizes as Pillow does, and so as training and test do: first the rows, then the columns, 8 bits between. */
export function resize(image, [height, width]) {
  if (image.width !== width) {
    const data = new Uint8ClampedArray(image.height * width * 3);
    const looks = bicubic(image.width, width);
    for (let y = 0, to = 0; y < image.height; y++)
      for (let x = 0; x < width; x++) {
        const {start, weights} = looks[x];
        let r = 0;
        let g = 0;
        let b = 0;
        let from = (y * image.width + start) * 3;
        for (const weight of weights) {
          r += weight * image.data[from++];
          g += weight * image.data[from++];
          b += weight * image.data[from++];
        }
        data[to++] = r;
        data[to++] = g;
        data[to++] = b;
      }
    image = {height: image.height, width, data};
  }
  if (image.height !== height) {
    const data = new Uint8ClampedArray(height * width * 3);
    const row = width * 3;
    bicubic(image.height, height).forEach(({start, weights}, y) => {
      const sums = new Float32Array(row);
      weights.forEach((weight, k) => {
        for (let i = 0, from = (start + k) * row; i < row; i++) sums[i] += weight * image.data[from++];
      });
      data.set(sums, y * row);
    });
    image = {height, width, data};
  }
  return {height, width, data: new Uint8Array(image.data.buffer)};
}

/** The lightness of an image as grey: what a network that colours sees. */
export function toGrey(image) {
  const data = new Uint8Array(image.data.length);
  const linear = Float64Array.from({length: 256}, (_, level) =>
    level / 255 > 0.04045 ? ((level / 255 + 0.055) / 1.055) ** 2.4 : level / 255 / 12.92,
  );
  for (let i = 0; i < data.length; i += 3) {
    const y =
      0.212671 * linear[image.data[i]] + 0.71516 * linear[image.data[i + 1]] + 0.072169 * linear[image.data[i + 2]];
    data.fill(Math.round(255 * (y > 0.0031308 ? 1.055 * y ** (1 / 2.4) - 0.055 : 12.92 * y)), i, i + 3);
  }
  return {...image, data};
}

/** Images of one height => one next to the other. */
export function join(images) {
  const height = images[0].height;
  const width = images.reduce((sum, image) => sum + image.width, 0);
  const data = new Uint8Array(height * width * 3);
  for (let y = 0, to = 0; y < height; y++)
    for (const image of images) {
      data.set(image.data.subarray(y * image.width * 3, (y + 1) * image.width * 3), to);
      to += image.width * 3;
    }
  return {height, width, data};
}

/** Gives an image to the user as a PNG file. */
export async function download(image, name) {
  const canvas = document.createElement("canvas");
  showImage(canvas, image);
  giveFile(await new Promise(done => canvas.toBlob(done, "image/png")), name);
}

/** Gives the user a file of this name. */
export function giveFile(blob, name) {
  const link = Object.assign(document.createElement("a"), {href: URL.createObjectURL(blob), download: name});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
