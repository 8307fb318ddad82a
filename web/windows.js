// Images as plain objects, {height, width, data: Uint8Array of RGB}, and large ones in windows that are blended:
// translate_windows() of the algorithm files, for a network that takes windows of one size.

/** The index that reflection at both ends, without repeating them, gives for any position; as numpy's "reflect". */
export function reflect(position, side) {
  const period = Math.max(1, 2 * side - 2);
  const index = ((position % period) + period) % period;
  return Math.min(index, period - index);
}

/** A window of an image, which may reach over its right and lower edges. */
export function cutWindow(image, top, left, height, width) {
  const data = new Uint8Array(height * width * 3);
  const columns = Array.from({length: width}, (_, x) => reflect(left + x, image.width) * 3);
  for (let y = 0, to = 0; y < height; y++) {
    const row = reflect(top + y, image.height) * image.width * 3;
    for (let x = 0; x < width; x++) {
      const from = row + columns[x];
      data[to++] = image.data[from];
      data[to++] = image.data[from + 1];
      data[to++] = image.data[from + 2];
    }
  }
  return {height, width, data};
}

/** The windows along a side: their starts, and the weights of their pixels, which add up to 1 at every place. */
function cover(side, length, overlap) {
  const shared = Math.round(length * overlap);
  const starts = [];
  for (let start = 0; start === 0 || start < side - shared; start += length - shared) starts.push(start);
  const ramp = Array.from({length}, (_, i) => Math.sin((Math.min(1, (i + 0.5) / shared) * Math.PI) / 2) ** 2);
  const window = ramp.map((value, i) => value * ramp[length - 1 - i]);
  const total = new Float64Array(starts.at(-1) + length);
  for (const start of starts) window.forEach((value, i) => (total[start + i] += value));
  return {starts, weights: starts.map(start => window.map((value, i) => value / total[start + i]))};
}

/**
 * Translates an image of any size. run: RGB of one window => promise of its translation. report(done, total) is awaited
 * after each window; when it gives false, the rest is dropped and the result is null.
 */
export async function translateWindows(run, image, [height, width], overlap, report) {
  if (image.height <= height && image.width <= width) {
    const whole = image.height === height && image.width === width;
    const out = await run((whole ? image : cutWindow(image, 0, 0, height, width)).data);
    return whole ? {...image, data: out} : cutWindow({height, width, data: out}, 0, 0, image.height, image.width);
  }
  const rows = cover(image.height, height, overlap);
  const columns = cover(image.width, width, overlap);
  const right = columns.starts.at(-1) + width;
  const data = new Uint8Array(image.height * image.width * 3);
  let band = new Float32Array(height * right * 3); // the rows that windows are added to
  const total = rows.starts.length * columns.starts.length;
  for (let i = 0; i < rows.starts.length; i++) {
    const top = rows.starts[i];
    const next = rows.starts[i + 1] ?? top + height;
    for (let j = 0; j < columns.starts.length; j++) {
      const left = columns.starts[j];
      const out = await run(cutWindow(image, top, left, height, width).data);
      for (let y = 0, from = 0; y < height; y++) {
        let to = (y * right + left) * 3;
        for (let x = 0; x < width; x++) {
          const weight = rows.weights[i][y] * columns.weights[j][x];
          band[to++] += weight * out[from++];
          band[to++] += weight * out[from++];
          band[to++] += weight * out[from++];
        }
      }
      if (!(await report(i * columns.starts.length + j + 1, total))) return null;
    }
    for (let y = top; y < Math.min(next, image.height); y++) {
      const from = (y - top) * right * 3;
      const to = y * image.width * 3;
      for (let k = 0; k < image.width * 3; k++) data[to + k] = Math.round(band[from + k]);
    }
    const rest = band.subarray((next - top) * right * 3);
    band = new Float32Array(band.length);
    band.set(rest);
  }
  return {...image, data};
}
