// What a network in an ONNX file finds in a picture. Everything is taken from what the file says of itself.
import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs";

ort.env.wasm.numThreads = self.crossOriginIsolated ? navigator.hardwareConcurrency : 1;
ort.env.logLevel = "error";

// The file's network and what it says of itself. `bytes` is a Uint8Array.
export async function open(bytes) {
  const about = metadata(bytes).effdense;
  if (!about) throw new Error("This file was not written by `python -m deployment export`.");
  return { session: await ort.InferenceSession.create(bytes), about: JSON.parse(about) };
}

// `objects`, with boxes in pixels of the picture; `pixels`, rows of `pixelNames`; what the file has.
// `picture` is an ImageData.
export async function find({ session, about }, picture, leastScore = 0.3) {
  const { width, height } = picture;
  const asked = about.image_hw || about.canvas_hw;
  // Letter-boxed: scaled to fit, at the top left.
  const scale = asked ? Math.min(asked[0] / height, asked[1] / width) : 1;
  const scaled = [height, width].map((side) => Math.max(1, Math.floor(side * scale)));
  const canvas = (asked || scaled).map((side) => Math.ceil(side / about.multiple) * about.multiple);
  const batch = about.batch || 1;
  const image = planes(resize(picture, scaled), scaled, canvas, about.fill_color);
  const images = new Uint8Array(batch * image.length);
  const sizes = new Float32Array(2 * batch);
  for (let one = 0; one < batch; one++) {
    images.set(image, one * image.length);
    sizes.set([height * scale, width * scale], 2 * one);
  }
  const given = {
    images: new ort.Tensor("uint8", images, [batch, 3, ...canvas]),
    sizes_hw: new ort.Tensor("float32", sizes, [batch, 2]),
  };
  const found = await session.run(Object.fromEntries(session.inputNames.map((name) => [name, given[name]])));
  if (found.box_deltas) throw new Error("This file leaves the suppression of boxes to its reader.");
  const answer = {};
  if (found.boxes_xyxy) answer.objects = objects(found, about, scale, [width, height], leastScore);
  if (found.class_rows || found.logits) {
    answer.pixels = pixels(found.class_rows?.data || rows(found.logits), canvas, scaled, [height, width]);
    answer.pixelNames = about.pixel_names;
  }
  return answer;
}

function objects(found, about, scale, sides, leastScore) {
  const kept = [];
  for (let one = 0; one < found.scores.dims[1]; one++) {
    const row = Number(found.class_ids.data[one]);
    const score = found.scores.data[one];
    if (row < 0 || !(score > leastScore)) continue;
    const corners = [...found.boxes_xyxy.data.slice(4 * one, 4 * one + 4)];
    const box = corners.map((value, axis) => Math.min(Math.max(value / scale, 0), sides[axis % 2]));
    kept.push({ name: about.names[row] || `id ${about.category_ids[row]}`, score, box_xyxy: box });
  }
  return kept;
}

function rows(logits) {
  const [, classes, height, width] = logits.dims;
  const best = new Uint8Array(height * width);
  for (let row = 1; row < classes; row++) {
    for (let place = 0; place < best.length; place++) {
      const own = logits.data[row * best.length + place];
      if (own > logits.data[best[place] * best.length + place]) best[place] = row;
    }
  }
  return best;
}

// The class of each pixel of the picture: that of the nearest one on the canvas.
function pixels(classRows, canvas, scaled, [height, width]) {
  const own = new Uint8Array(height * width);
  for (let y = 0; y < height; y++) {
    const line = Math.floor(((y + 0.5) * scaled[0]) / height) * canvas[1];
    for (let x = 0; x < width; x++) {
      own[y * width + x] = classRows[line + Math.floor(((x + 0.5) * scaled[1]) / width)];
    }
  }
  return own;
}

// Colours one after another, as the file takes them, with the rest of the canvas filled.
function planes(rgba, [height, width], canvas, fill) {
  const area = canvas[0] * canvas[1];
  const image = new Uint8Array(3 * area);
  for (let channel = 0; channel < 3; channel++) {
    image.fill(fill[channel], channel * area, (channel + 1) * area);
    for (let y = 0; y < height; y++) {
      const line = channel * area + y * canvas[1];
      for (let x = 0; x < width; x++) image[line + x] = rgba[4 * (y * width + x) + channel];
    }
  }
  return image;
}

// A picture's RGBA at another height and width, by the filter that the network was trained with: bilinear, as wide
// as a pixel of the smaller picture, rows first. A browser's own `drawImage` leaves its filter open.
function resize(picture, [height, width]) {
  if (height === picture.height && width === picture.width) return picture.data;
  const across = lines(picture.data, picture.height, picture.width, width, 4 * picture.width, 4, 4 * width);
  return lines(across, width, picture.height, height, 4, 4 * width, 4);
}

// Resize each of `count` lines from `from` to `to` pixels, which are `next` values apart in the source and the result.
// Lines are `step` values apart in the source, and `stepTo` in the result.
function lines(source, count, from, to, step, next, stepTo) {
  const result = new Uint8ClampedArray(4 * count * to);
  const scale = from / to;
  const reach = Math.max(scale, 1);
  for (let place = 0; place < to; place++) {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - reach + 0.5));
    const last = Math.min(from, Math.floor(centre + reach + 0.5));
    const weights = [];
    for (let one = first; one < last; one++) {
      weights.push(Math.max(0, 1 - Math.abs((one - centre + 0.5) / reach)));
    }
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    // Whole numbers, as Pillow has them, so that the results are its results.
    const whole = weights.map((weight) => Math.round((weight / total) * 2 ** 22));
    for (let line = 0; line < count; line++) {
      for (let channel = 0; channel < 4; channel++) {
        let sum = 2 ** 21;
        for (let one = 0; one < whole.length; one++) {
          sum += whole[one] * source[line * step + (first + one) * next + channel];
        }
        result[line * stepTo + place * next + channel] = Math.floor(sum / 2 ** 22);
      }
    }
  }
  return result;
}

// The texts that an ONNX file holds beside its graph: `metadata_props` of ONNX's ModelProto, field 14, of which each
// entry has a key, field 1, and a value, field 2. The library does not give them.
function metadata(bytes) {
  const text = new TextDecoder();
  const texts = {};
  for (const [field, content] of fields(bytes)) {
    if (field !== 14) continue;
    const entry = Object.fromEntries(fields(content));
    texts[text.decode(entry[1])] = text.decode(entry[2]);
  }
  return texts;
}

// The fields of a message of Protocol Buffers that hold bytes, with their numbers.
function* fields(bytes) {
  let place = 0;
  const number = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = bytes[place++];
      if (byte === undefined) throw new Error("This file is no ONNX file.");
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  };
  while (place < bytes.length) {
    const tag = number();
    if (tag % 8 === 0) number();
    else if (tag % 8 === 1) place += 8;
    else if (tag % 8 === 5) place += 4;
    else if (tag % 8 === 2) {
      const length = number();
      yield [Math.floor(tag / 8), bytes.subarray(place, (place += length))];
    } else throw new Error("This file is no ONNX file.");
  }
}
