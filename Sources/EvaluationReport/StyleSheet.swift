// The look of the report: one column on a phone, three plots in a row on a wide screen.

enum StyleSheet {
  // Colours are Okabe and Ito's, which people with any colour vision tell apart; marks differ in
  // shape and lines in dashes as well.
  static let page: Markup = """
    :root {
      color-scheme: light dark;
      --paper: #ffffff; --ink: #1b1d21; --quiet: #5a6068; --rule: #e3e5e8; --faint: #f5f6f7;
      --grey: #6b7078; --blue: #0072b2; --red: #d55e00; --purple: #b0568d; --green: #00845f;
      --link: #005b94;
    }
    @media (prefers-color-scheme: dark) {
      :root {
        --paper: #15171a; --ink: #e8e9eb; --quiet: #a3a9b1; --rule: #34383e; --faint: #1d2024;
        --grey: #9aa0a8; --blue: #56b4e9; --red: #f0803c; --purple: #cc79a7; --green: #2fbf92;
        --link: #7cc4ee;
      }
    }
    * { box-sizing: border-box; }
    html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
    body {
      margin: 0; background: var(--paper); color: var(--ink);
      font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans",
        Arial, sans-serif;
      font-variant-numeric: tabular-nums;
    }
    main { max-width: 1180px; margin: 0 auto; padding: 40px 32px 72px; }
    h1 { font-size: 30px; line-height: 1.2; letter-spacing: -0.01em; margin: 0 0 6px; }
    h2 { font-size: 22px; line-height: 1.25; margin: 0 0 4px; }
    h3 { font-size: 16px; margin: 28px 0 2px; }
    p, ul, dl { margin: 0 0 12px; }
    section p { max-width: 68ch; }
    a { color: var(--link); text-underline-offset: 2px; }
    code { font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
      overflow-wrap: anywhere; }
    .meta { color: var(--quiet); font-size: 14px; }
    .lead { font-size: 21px; line-height: 1.4; max-width: 46ch; margin: 20px 0 24px; }
    .split { display: grid; grid-template-columns: minmax(0, 1fr); gap: 32px 56px; }
    .outcomes { list-style: none; padding: 0; margin: 0; }
    .outcomes li { padding: 10px 0; border-top: 1px solid var(--rule); font-size: 15px; }
    .outcomes a { font-weight: 600; }
    .outcomes span:last-child { display: block; color: var(--quiet); }
    .outcome { float: right; font-size: 13px; font-weight: 600; color: var(--quiet);
      margin-left: 12px; }
    .is-better .outcome { color: var(--green); }
    .is-worse .outcome { color: var(--red); }
    .summary h2 { margin-top: 40px; }
    .legend { list-style: none; display: flex; flex-wrap: wrap; gap: 4px 20px; padding: 0;
      margin: 12px 0 0; color: var(--quiet); font-size: 14px; }
    .key { width: 14px; height: 14px; vertical-align: -2px; margin-right: 6px; }
    .task, .methods { margin-top: 56px; padding-top: 28px; border-top: 2px solid var(--ink); }
    .figures { display: grid; gap: 36px 40px; margin-top: 20px; align-items: start;
      grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); }
    figure { margin: 0; min-width: 0; }
    figcaption { font-size: 15px; line-height: 1.35; font-weight: 600; margin-bottom: 10px;
      text-wrap: balance; }
    .note { color: var(--quiet); font-size: 13px; margin: 6px 0 0; }
    details { margin-top: 6px; font-size: 14px; }
    summary { cursor: pointer; color: var(--quiet); width: fit-content; padding: 2px 0; }
    summary:hover { color: var(--ink); }
    .aside { margin: 0 0 12px; }
    .aside ul { margin: 6px 0 0; padding-left: 20px; max-width: 80ch; }
    .scroll { overflow-x: auto; margin: 6px 0 0; }
    table { border-collapse: collapse; font-size: 14px; }
    th, td { text-align: left; font-weight: 400; vertical-align: baseline;
      padding: 5px 18px 5px 0; border-bottom: 1px solid var(--rule); }
    th:last-child, td:last-child { padding-right: 0; }
    thead th { color: var(--quiet); font-size: 13px; vertical-align: bottom; }
    .number { text-align: right; white-space: nowrap; }
    .best { font-weight: 700; }
    small { display: block; font-size: 13px; font-weight: 400; color: var(--quiet); }
    figure table { font-size: 13px; }
    figure th, figure td { padding: 4px 14px 4px 0; white-space: nowrap; }
    .stacks { width: 100%; }
    .stacks tbody th { font-weight: 600; }
    .methods h2 { margin-bottom: 12px; }
    .methods > .aside { margin-top: 20px; }
    .columns { display: grid; grid-template-columns: minmax(0, 1fr); gap: 0 56px; }
    .methods td:last-child { overflow-wrap: anywhere; }
    dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 2px 20px;
      font-size: 14px; }
    dt { color: var(--quiet); }
    dd { margin: 0; }

    .plot { display: block; width: 100%; height: auto; max-width: 430px; overflow: visible; }
    .wide { display: none; max-width: 600px; }
    .plot text { font-size: 12px; fill: var(--ink); }
    .plot .quiet, .plot .tick { font-size: 11px; fill: var(--quiet); }
    .plot .detail { font-size: 10.5px; fill: var(--quiet); }
    .plot .group { font-size: 11.5px; fill: var(--quiet); font-weight: 600; }
    .plot .strong { font-weight: 700; }
    .plot .grid, .plot .guide { stroke: var(--rule); stroke-width: 1; }
    .plot .guide { stroke-dasharray: 1 3; }
    .plot .axis, .plot .zero { stroke: var(--quiet); stroke-width: 1; }
    .plot .reference { stroke: var(--quiet); stroke-width: 1.2; stroke-dasharray: 4 3; }
    .plot .leader { stroke: var(--quiet); stroke-width: 0.7; }
    .plot .thin { fill: none; stroke: var(--quiet); stroke-width: 0.8; opacity: 0.4; }
    .plot .line { fill: none; stroke-width: 2.2; stroke-linejoin: round; }
    .plot .bar { stroke-width: 2.2; stroke-linecap: round; }
    .plot .goal { fill: var(--green); opacity: 0.12; }
    .mark { stroke: var(--paper); stroke-width: 1; }
    .mark.open { fill: var(--paper); stroke-width: 2; }
    .mark.grey { fill: var(--grey); } .bar.grey, .line.grey, .open.grey { stroke: var(--grey); }
    .mark.blue { fill: var(--blue); } .bar.blue, .line.blue, .open.blue { stroke: var(--blue); }
    .mark.red { fill: var(--red); } .bar.red, .line.red, .open.red { stroke: var(--red); }
    .mark.purple { fill: var(--purple); }
    .bar.purple, .line.purple, .open.purple { stroke: var(--purple); }
    .mark.green { fill: var(--green); }
    .bar.green, .line.green, .open.green { stroke: var(--green); }
    .mark.open { fill: var(--paper); }

    @media (min-width: 1000px) {
      .split { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); }
      .columns { grid-template-columns: repeat(2, minmax(0, 1fr)); }
      .stacks th, .stacks td { white-space: nowrap; }
      .narrow { display: none; }
      .wide { display: block; }
    }
    @media screen and (max-width: 760px) {
      main { padding: 24px 16px 48px; }
      h1 { font-size: 26px; }
      .lead { font-size: 19px; }
      .plot { max-width: 480px; }
      .stacks thead { display: none; }
      .stacks, .stacks tbody, .stacks tr { display: block; }
      .stacks tr { padding: 10px 0; border-top: 1px solid var(--rule); }
      .stacks th, .stacks td { display: flex; justify-content: space-between; gap: 16px;
        border: 0; padding: 2px 0; text-align: right; white-space: normal; }
      .stacks td::before { content: attr(data-label); color: var(--quiet); text-align: left;
        flex: none; }
      .stacks th { font-size: 16px; }
      .stacks small { display: inline; margin-left: 8px; }
      dl { grid-template-columns: minmax(0, 1fr); }
    }
    @media print {
      :root {
        color-scheme: light;
        --paper: #ffffff; --ink: #000000; --quiet: #444444; --rule: #cccccc; --faint: #ffffff;
        --grey: #6b7078; --blue: #0072b2; --red: #d55e00; --purple: #b0568d; --green: #00845f;
        --link: #000000;
      }
      @page { margin: 13mm; }
      body { font-size: 10pt; }
      h1 { font-size: 20pt; }
      h2 { font-size: 15pt; }
      .lead { font-size: 13pt; max-width: none; margin: 14px 0; }
      .outcomes li { font-size: 10pt; padding: 6px 0; }
      .narrow { display: none; }
      .plot { max-width: 305px; }
      .wide { display: block; max-width: 520px; }
      table, .note, .meta, dl, figcaption, .legend { font-size: 9pt; }
      main { max-width: none; padding: 0; }
      .figures { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 20px 28px; }
      .task, .methods { break-before: page; margin-top: 0; padding-top: 0; border: 0; }
      figure, tr, .outcomes li, figcaption, .stream { break-inside: avoid; }
      .stacks th, .stacks td { white-space: nowrap; }
      h2, h3, figcaption, thead { break-after: avoid; }
      figure details { display: none; }
      .aside::details-content { content-visibility: visible; display: block; }
      .scroll { overflow: visible; }
      a { text-decoration: none; }
    }

    """
}
