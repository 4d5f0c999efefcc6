"""How Grafana wants its dashboards written: panels, rows, variables, queries of the usual kinds."""

SCHEMA_VERSION = 39  # Grafana 11
WIDTH, HEIGHT = 24, 8  # of the grid; of a graph
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
RATE = "$__rate_interval"


def quantiles(name, labels, of=(0.5, 0.95, 0.99)):
    """Queries: quantiles of a histogram over what is chosen."""
    buckets = f"sum by (le) (rate(pregate_{name}_bucket{{{labels}}}[{RATE}]))"
    return [(f"histogram_quantile({q}, {buckets})", f"p{q * 100:g}") for q in of]


def rate(name, labels, by="", legend=None):
    """Query: events a second, summed, by a label if one is named."""
    sums = f"sum by ({by})" if by else "sum"
    return (f"{sums} (rate(pregate_{name}{{{labels}}}[{RATE}]))", legend or f"{{{{{by}}}}}")


def share(part, whole, labels, by, legend):
    """Query: the rate of one counter, of another's."""
    sums = f"sum by ({by})"
    return (f"{sums} (rate(pregate_{part}{{{labels}}}[{RATE}]))"
            f" / {sums} (rate(pregate_{whole}{{{labels}}}[{RATE}]))", legend)


def mean(name, labels, by="", legend="mean"):
    """Query: mean of a histogram's observations."""
    sums = f"sum by ({by})" if by else "sum"
    return (f"{sums} (rate(pregate_{name}_sum{{{labels}}}[{RATE}]))"
            f" / {sums} (rate(pregate_{name}_count{{{labels}}}[{RATE}]))", legend)


def gauge(name, labels, legend, by=None):
    """Query: a gauge as it is, or summed: by="" over everything."""
    series = f"pregate_{name}{{{labels}}}"
    return ({None: series, "": f"sum({series})"}.get(by, f"sum by ({by}) ({series})"), legend)


def _panel(kind, title, unit, description, queries, size, options, maximum, custom):
    defaults = {"unit": unit, "min": 0, "color": {"mode": "palette-classic"}, "custom": custom}
    if maximum is not None:
        defaults["max"] = maximum
    targets = [{"refId": chr(ord("A") + i), "datasource": DATASOURCE, "expr": expr, "legendFormat": legend,
                "range": True, "instant": False, "editorMode": "code"}
               for i, (expr, legend) in enumerate(queries)]
    return {"type": kind, "title": title, "description": description, "datasource": DATASOURCE,
            "gridPos": dict(zip("wh", size)), "options": options, "targets": targets,
            "fieldConfig": {"defaults": defaults, "overrides": []}}


def number(title, unit, description, *queries, maximum=None):
    """The last value, large."""
    options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"}
    return _panel("stat", title, unit, description, queries, (4, HEIGHT // 2), options, maximum, {})


def graph(title, unit, description, *queries, stack=False, maximum=None):
    """Values over time."""
    options = {"legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
               "tooltip": {"mode": "multi", "sort": "desc"}}
    custom = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 20 if stack else 5, "showPoints": "never",
              "stacking": {"mode": "normal" if stack else "none", "group": "A"}}
    return _panel("timeseries", title, unit, description, queries, (8, HEIGHT), options, maximum, custom)


def _placed(rows):
    """Panels in rows, a header above each: [(title, [panel, ...])]."""
    panels, y = [], 0
    for title, row in rows:
        place = {"x": 0, "y": y, "w": WIDTH, "h": 1}
        panels.append({"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": place})
        x, y, height = 0, y + 1, 0
        for panel in row:
            at = panel["gridPos"]
            if x + at["w"] > WIDTH:
                x, y, height = 0, y + height, 0
            at.update(x=x, y=y)
            x, height = x + at["w"], max(height, at["h"])
            panels.append(panel)
        y += height
    return [{"id": i + 1, **panel} for i, panel in enumerate(panels)]


def _variable(name, label, query):
    return {"type": "query", "name": name, "label": label, "datasource": DATASOURCE, "definition": query,
            "query": {"query": query, "refId": f"variable-{name}"}, "refresh": 2, "sort": 3, "regex": "",
            "hide": 0, "multi": True, "includeAll": True, "allValue": ".*",
            "current": {"text": "All", "value": "$__all"}}


def dashboard(uid, title, description, variables, rows):
    """`variables`: (name, label, query) each; a data source comes before them."""
    source = {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus",
              "regex": "", "refresh": 1, "hide": 0, "current": {}}
    links = {"type": "dashboards", "title": "pregate", "tags": ["pregate"], "asDropdown": True,
             "includeVars": True, "keepTime": True}
    return {"uid": uid, "title": title, "description": description, "tags": ["pregate"],
            "schemaVersion": SCHEMA_VERSION, "version": 1, "editable": True, "graphTooltip": 1,
            "timezone": "", "refresh": "30s", "time": {"from": "now-1h", "to": "now"}, "links": [links],
            "annotations": {"list": []}, "panels": _placed(rows),
            "templating": {"list": [source] + [_variable(*v) for v in variables]}}
