/* Turns `<div class="sa-map" data-map="KEY" data-sum="SUM">` into a map once it comes near the
   screen. MapLibre and PMTiles lie under vendor/, the data in maps/KEY.js, as the ledger wrote
   them. All of it is loaded as scripts, which work from file:// and from servers without ranges. */
(() => {
  "use strict";
  const here = document.currentScript.src.replace(/[^/]*$/, "");
  const sensors = ["radar", "lores", "hires"];

  function element(name, attributes = {}, ...children) {
    const made = Object.assign(document.createElement(name), attributes);
    made.append(...children);
    return made;
  }

  function load(node) {
    return new Promise((done, fail) => {
      node.onload = done;
      node.onerror = () => fail(new Error(`${node.src || node.href} must be there`));
      document.head.append(node);
    });
  }
  const script = (name) => load(element("script", { src: here + name }));
  const sheet = (name) => load(element("link", { rel: "stylesheet", href: here + name }));
  const colour = (name) =>
    getComputedStyle(document.documentElement).getPropertyValue(`--sa-${name}`).trim();

  let libraries;
  function loadLibraries() {
    libraries ??= Promise.all([
      script("vendor/maplibre-gl/maplibre-gl.js"),
      script("vendor/pmtiles/pmtiles.js"),
      sheet("vendor/maplibre-gl/maplibre-gl.css").then(() => sheet("map.css")),
    ]).then(() => {
      const protocol = new pmtiles.Protocol();
      maplibregl.addProtocol("pmtiles", async (request, abort) => {
        const answer = await protocol.tile(request, abort);
        // MapLibre waits for ever for an image that an archive lacks, so it gets an empty one.
        return answer.data ? answer : { data: await createImageBitmap(new ImageData(1, 1)) };
      });
      return protocol;
    });
    return libraries;
  }

  function inMemory(key, base64) {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    return {
      getKey: () => key,
      getBytes: async (start, length) => ({ data: bytes.slice(start, start + length).buffer }),
    };
  }

  async function sources(key, data, protocol) {
    const made = {
      scenes: { type: "geojson", data: data.scenes },
      samples: { type: "geojson", data: data.samples, generateId: true },
    };
    for (const sensor of sensors) {
      const archive = new pmtiles.PMTiles(inMemory(`${key}/${sensor}`, data.tiles[sensor]));
      protocol.add(archive);
      const { minZoom, maxZoom } = await archive.getHeader();
      made[sensor] = {
        type: "raster",
        tiles: [`pmtiles://${key}/${sensor}/{z}/{x}/{y}`],
        tileSize: 256,
        minzoom: minZoom,
        maxzoom: maxZoom,
        attribution: element("i", { textContent: data.attribution[sensor] }).innerHTML,
      };
    }
    return made;
  }

  function layers(sensor) {
    const bySplit = ["match", ["get", "split"], "valid", colour("valid"), colour("train")];
    const images = sensors.map((name) => ({
      id: name,
      type: "raster",
      source: name,
      layout: { visibility: name === sensor ? "visible" : "none" },
      paint: { "raster-fade-duration": 0 },
    }));
    const line = (id, source, paint) => ({ id, type: "line", source, paint });
    return [
      { id: "ground", type: "background", paint: { "background-color": colour("ground") } },
      ...images,
      {
        id: "samples",
        type: "fill",
        source: "samples",
        paint: {
          "fill-color": bySplit,
          "fill-opacity": ["interpolate", ["linear"], ["zoom"], 9, 0.18, 12, 0.03],
        },
      },
      line("sample-edges", "samples", {
        "line-color": bySplit,
        "line-width": ["interpolate", ["linear"], ["zoom"], 9, 0.4, 13, 1.6],
      }),
      line("sample-chosen", "samples", { "line-color": "#fff", "line-width": 3 }),
      line("scenes-found", "scenes", { "line-color": colour("other"), "line-width": 1.5 }),
      line("scenes-halo", "scenes", { "line-color": "#fff", "line-width": 5, "line-opacity": 0.7 }),
      line("scenes-taken", "scenes", { "line-color": colour(sensor), "line-width": 2.5 }),
    ];
  }

  function showSensor(map, sensor) {
    for (const name of sensors) {
      map.setLayoutProperty(name, "visibility", name === sensor ? "visible" : "none");
    }
    const mine = ["==", ["get", "sensor"], sensor];
    map.setFilter("scenes-found", ["all", mine, ["!", ["get", "used"]]]);
    for (const layer of ["scenes-halo", "scenes-taken"]) {
      map.setFilter(layer, ["all", mine, ["get", "used"]]);
    }
    map.setPaintProperty("scenes-taken", "line-color", colour(sensor));
  }

  function showLayers(map, prefix, shown) {
    for (const { id } of map.getStyle().layers.filter(({ id }) => id.startsWith(prefix))) {
      map.setLayoutProperty(id, "visibility", shown ? "visible" : "none");
    }
  }

  function facts({ z, x, y, split, gsd_m, ...about }) {
    const list = element("dl");
    const say = (term, ...lines) =>
      list.append(
        element("dt", { textContent: term }),
        ...lines.map((line) => element("dd", { textContent: line })),
      );
    const percent = (share) => `${(100 * share).toFixed(1)} %`;
    for (const sensor of sensors) {
      const { valid_frac, date, scenes, days_from_lores, cloud_frac } = about[sensor];
      const said = [date, `${percent(valid_frac)} valid`];
      if (cloud_frac !== undefined) said.push(`${percent(cloud_frac)} cloud`);
      if (days_from_lores !== undefined) said.push(`${days_from_lores} days from lores`);
      say(sensor, said.join(", "), ...scenes);
    }
    const title = element("strong", { textContent: `${z}/${x}/${y}, ${split}` });
    const pixel = element("div", { textContent: `a lores pixel is ${gsd_m} m of ground` });
    return element("div", { className: "sa-map-facts" }, title, pixel, list);
  }

  function showWhole(map, popup) {
    const [inside, held] = [map.getContainer(), popup.getElement()].map((node) =>
      node.getBoundingClientRect(),
    );
    const over = (low, high) => Math.min(low - 8, 0) || Math.max(high + 8, 0);
    map.panBy([
      over(held.left - inside.left, held.right - inside.right),
      over(held.top - inside.top, held.bottom - inside.bottom),
    ]);
  }

  function answerClicks(map, samples) {
    const popup = new maplibregl.Popup({ anchor: "bottom", closeOnClick: false, maxWidth: "18rem" });
    const choose = (id) => map.setFilter("sample-chosen", ["==", ["id"], id]);
    const under = ({ point }) => map.queryRenderedFeatures(point, { layers: ["samples"] })[0];
    popup.on("close", () => choose(-1));
    choose(-1);
    map.on("click", (event) => {
      const sample = under(event);
      popup.remove();
      if (!sample) return;
      popup.setDOMContent(facts(samples[sample.id].properties)).setLngLat(event.lngLat).addTo(map);
      choose(sample.id);
      showWhole(map, popup);
    });
    map.on("mousemove", (event) => {
      map.getCanvas().style.cursor = under(event) ? "pointer" : "";
    });
  }

  function choices(key, map, sensor, changed) {
    const pills = sensors.map((name) => {
      const attributes = { type: "radio", name: key, value: name, checked: name === sensor };
      const input = element("input", attributes);
      input.addEventListener("change", () => changed(name));
      return element("label", {}, input, name);
    });
    const boxes = [["footprints", "scenes"], ["samples", "sample"]].map(([name, prefix]) => {
      const input = element("input", { type: "checkbox", checked: true });
      input.addEventListener("change", () => showLayers(map, prefix, input.checked));
      return element("label", {}, input, name);
    });
    const legend = element("legend", { textContent: "images" });
    return [element("fieldset", {}, legend, ...pills), element("fieldset", {}, ...boxes)];
  }

  function legend(data, sensor) {
    const key = (name, text) => {
      const swatch = element("i");
      swatch.style.setProperty("--swatch", colour(name));
      return element("span", {}, swatch, text);
    };
    const scenes = data.scenes.features.filter((scene) => scene.properties.sensor === sensor);
    const taken = scenes.filter((scene) => scene.properties.used).length;
    const all = Object.values(data.splits).reduce((sum, count) => sum + count, 0);
    const shown = data.samples.features.length;
    const samples = Object.entries(data.splits).map(([name, count]) =>
      key(name, `${count} ${name} samples`),
    );
    if (shown < all) samples.push(`${shown} of ${all} samples are drawn`);
    return [
      ...samples,
      key(sensor, `${taken} ${sensor} scenes taken`),
      ...(taken < scenes.length ? [key("other", `${scenes.length - taken} more found`)] : []),
    ];
  }

  function makeMap(box, style, data) {
    const place = element("div", { className: "sa-map-canvas" });
    place.append(element("span", { className: `sa-badge sa-${data.data}`, textContent: data.badge }));
    box.replaceChildren(place);
    const [west, south, east, north] = data.bounds;
    const deepest = Math.max(...sensors.map((sensor) => style.sources[sensor].maxzoom));
    const map = new maplibregl.Map({
      container: place,
      style,
      bounds: [west, south, east, north],
      fitBoundsOptions: { padding: 16 },
      minZoom: Math.max(0, style.sources.lores.minzoom - 1.5),
      maxZoom: deepest + 3,
      cooperativeGestures: true,
      dragRotate: false,
      touchPitch: false,
      renderWorldCopies: false,
      attributionControl: { compact: false },
    });
    map.touchZoomRotate.disableRotation();
    map.keyboard.disableRotation();
    map.addControl(new maplibregl.NavigationControl({ showCompass: false }), "top-right");
    map.addControl(new maplibregl.FullscreenControl({ container: box }), "top-right");
    map.addControl(new maplibregl.ScaleControl(), "bottom-left");
    return map;
  }

  async function draw(box) {
    const { map: key, sum } = box.dataset;
    const [protocol] = await Promise.all([
      loadLibraries(),
      script(`maps/${encodeURIComponent(key)}.js?v=${sum}`),
    ]);
    const data = window.salibMaps[key];
    let sensor = "lores";
    const style = {
      version: 8,
      sources: await sources(key, data, protocol),
      layers: layers(sensor),
    };
    const map = makeMap(box, style, data);
    box.map = map;
    const below = element("div", { className: "sa-map-legend" });
    const change = (name) => {
      sensor = name;
      showSensor(map, sensor);
      below.replaceChildren(...legend(data, sensor));
    };
    await map.once("load");
    box.prepend(element("form", { className: "sa-map-choices" }, ...choices(key, map, sensor, change)));
    box.append(below);
    change(sensor);
    answerClicks(map, data.samples.features);
    new MutationObserver(() =>
      map.setPaintProperty("ground", "background-color", colour("ground")),
    ).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    await map.once("idle");
    box.dataset.state = "ready";
  }

  function drawOrSay(box) {
    if (!document.createElement("canvas").getContext("webgl2")) {
      box.firstChild.textContent = "This browser has no WebGL, which the map that stands here needs.";
      return;
    }
    draw(box).catch((fault) => {
      box.replaceChildren(element("p", { className: "sa-missing", textContent: `No map: ${fault.message}` }));
      console.error(fault);
    });
  }

  const near = new IntersectionObserver(
    (entries) => {
      for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
        near.unobserve(target);
        drawOrSay(target);
      }
    },
    { rootMargin: "400px" },
  );
  document.querySelectorAll(".sa-map").forEach((box) => near.observe(box));
})();
