"use strict";

// How the map draws points: markers, and a plot of Bokeh. It is in the page after BokehJS, before the other scripts.
const MapPlot = (() => {
  const polygon = (n, radius, turn = 0, inner = radius) =>
    Array.from({ length: n }, (_, corner) => {
      const angle = (2 * Math.PI * corner) / n + turn;
      const length = corner % 2 ? inner : radius;
      return `${(8 + length * Math.sin(angle)).toFixed(2)},${(8 - length * Math.cos(angle)).toFixed(2)}`;
    }).join(" ");

  const SHAPES = {
    ring: () => PE.svg("circle", { cx: 8, cy: 8, r: 5 }),
    faint: () => PE.svg("circle", { cx: 8, cy: 8, r: 3.5 }),
    circle: () => PE.svg("circle", { cx: 8, cy: 8, r: 5.5 }),
    square: () => PE.svg("rect", { x: 2.5, y: 2.5, width: 11, height: 11 }),
    triangle: () => PE.svg("polygon", { points: polygon(3, 7) }),
    inverted: () => PE.svg("polygon", { points: polygon(3, 7, Math.PI) }),
    diamond: () => PE.svg("polygon", { points: polygon(4, 7.5, 0, 5) }),
    star: () => PE.svg("polygon", { points: polygon(10, 7.5, 0, 2.9) }),
    hex: () => PE.svg("polygon", { points: polygon(6, 6.5, Math.PI / 6) }),
    plus: () => PE.svg("path", { d: "M6 2h4v4h4v4h-4v4H6v-4H2V6h4z" }),
  };
  const LINES = {
    cross: "M8 2v12M2 8h12",
    x: "M3.5 3.5l9 9M12.5 3.5l-9 9",
    asterisk: "M8 1.5v13M1.5 8h13M3.5 3.5l9 9M12.5 3.5l-9 9",
    y: "M8 14V8M8 8L2.8 5M8 8l5.2-3",
    dot: "M8 7.9v.2",
  };

  // Return how a marker is drawn: a shape is filled, a shape with lines inside is pale, `ring` and `faint` are circles.
  const lookOf = (marker) => {
    const isShape = marker.split("_")[0] in SHAPES;
    const isPlain = isShape && (marker in SHAPES || marker === "inverted_triangle");
    if (marker === "ring") return { marker: { value: "circle" }, fill_alpha: 0 };
    if (marker === "faint") return { marker: { value: "circle" }, fill_alpha: 0.2, line_color: null };
    return { marker: { value: marker }, fill_alpha: isPlain ? 0.8 : 0.3, ...(isPlain ? { line_color: null } : {}) };
  };

  // Draw a marker of Bokeh in a small picture, as `lookOf` has it on the map.
  const drawSwatch = (marker, color) => {
    const [shape, inside] = marker.split("_");
    const swatch = PE.svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true", stroke: color, fill: color });
    const { fill_alpha: opacity, line_color: line } = lookOf(marker);
    if (SHAPES[shape]) {
      const outline = SHAPES[shape]();
      outline.setAttribute("fill-opacity", opacity);
      if (line === null) outline.setAttribute("stroke", "none");
      swatch.append(outline);
    }
    const lines = SHAPES[shape] ? LINES[inside] : LINES[shape];
    if (lines) swatch.append(PE.svg("path", { d: lines, "stroke-width": inside === "dot" ? 4.5 : 1.6, "stroke-linecap": "round" }));
    return swatch;
  };

  // ---------------------------------------------------------------------------------------------- the plot

  // WebGL is fast with a graphics card. Drawn by the processor it is slow; Bokeh's other way to draw is then faster, which
  // draws fewer points while the map moves.
  const hasGraphicsCard = () => {
    const gl = document.createElement("canvas").getContext("webgl");
    if (!gl) return false;
    const info = gl.getExtension("WEBGL_debug_renderer_info");
    const name = gl.getParameter(info ? info.UNMASKED_RENDERER_WEBGL : gl.RENDERER);
    gl.getExtension("WEBGL_lose_context")?.loseContext();
    return !/swiftshader|llvmpipe|softpipe|software|basic render/i.test(name);
  };

  // Make an empty plot; return what draws it and reads it, and `embed`, which puts it into an element.
  const makePlot = () => {
    const { Models } = Bokeh;
    const ranges = [new Models.Range1d(), new Models.Range1d()];
    const axes = [new Models.LinearAxis(), new Models.LinearAxis()];
    const grids = axes.map((axis, dimension) => new Models.Grid({ axis, dimension }));
    const tools = {
      pan: new Models.PanTool(),
      box: new Models.BoxSelectTool({ renderers: [] }), // the map itself finds the images inside
      lasso: new Models.LassoSelectTool({ renderers: [], continuous: false }),
    };
    const wheel = new Models.WheelZoomTool();
    const plot = new Models.Plot({
      x_range: ranges[0], y_range: ranges[1], sizing_mode: "stretch_both", toolbar_location: null, title: null,
      min_border: 8, lod_threshold: 300, lod_interval: 1000, output_backend: hasGraphicsCard() ? "webgl" : "canvas",
    });
    plot.add_layout(axes[0], "below");
    plot.add_layout(axes[1], "left");
    for (const grid of grids) plot.add_layout(grid, "center");
    plot.add_tools(...Object.values(tools), wheel);
    plot.toolbar.setv({ active_drag: tools.pan, active_scroll: wheel });

    const addLayer = (attributes) => {
      const source = new Models.ColumnDataSource({ data: { x: [], y: [], color: [], size: [] } });
      const color = { field: "color" };
      const place = { x: { field: "x" }, y: { field: "y" } };
      const glyph = new Models.Scatter({ ...place, fill_color: color, line_color: color, ...attributes });
      plot.add_glyph(glyph, source);
      return { glyph, source };
    };
    const rest = addLayer({ ...lookOf("faint"), fill_color: { value: PE.color(-1) } });
    const layers = { ring: addLayer(lookOf("ring")) }; // by marker: one layer of many markers is slow in WebGL
    const layerOf = (marker) => (layers[marker] = layers[marker] || addLayer(lookOf(marker)));
    const rings = addLayer({ marker: { value: "circle" }, size: { field: "size" }, fill_alpha: 0, line_width: { value: 2 } });

    const paint = () => {
      const [background, text, soft, line] = ["--bg", "--fg", "--soft", "--line"].map(PE.cssVariable);
      plot.setv({ background_fill_color: background, border_fill_color: background, outline_line_color: line });
      for (const axis of axes) {
        axis.setv({
          axis_line_color: soft, major_tick_line_color: soft, minor_tick_line_color: null, major_label_text_color: soft,
          axis_label_text_color: text, axis_label_text_font_style: "normal", axis_label_text_font_size: "13px",
        });
      }
      for (const grid of grids) grid.grid_line_color = line;
    };

    const embed = async (element) => {
      const { Document } = Bokeh.loader["@bokehjs/document"];
      const whole = new Document();
      const duration = whole.interactive_duration.bind(whole); // ms since the last move, -1 if at rest
      whole.interactive_duration = () => duration() || 1; // Bokeh draws fewer points only after more than 0 ms
      whole.add_root(plot);
      const [view] = [...(await Bokeh.embed.add_document_standalone(whole, element))];
      view.canvas_view.events_el.tabIndex = -1; // the element around it has the focus
      return view;
    };
    return { plot, ranges, axes, tools, rest, rings, layers, layerOf, paint, embed };
  };

  const pointSize = (n) => (n <= 300 ? 10 : n <= 2000 ? 8 : n <= 10000 ? 6.5 : n <= 30000 ? 5 : 4);

  // Is a point inside a polygon? (The number of edges on its right is odd.)
  const isInside = (x, y, xs, ys) => {
    let inside = false;
    for (let i = 0, j = xs.length - 1; i < xs.length; j = i++) {
      if (ys[i] > y !== ys[j] > y && x < ((xs[j] - xs[i]) * (y - ys[i])) / (ys[j] - ys[i]) + xs[i]) inside = !inside;
    }
    return inside;
  };

  return { drawSwatch, isInside, makePlot, pointSize };
})();
