"""GET /docs: the OpenAPI document for people, without scripts and without anything from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any

from fastapi import APIRouter, Request, Response

router = APIRouter(include_in_schema=False)

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;color:#222;"
    "background:#fff}"
    "code,pre{font:14px/1.45 ui-monospace,monospace}pre{background:#f4f4f2;padding:.75rem;overflow-x:auto}"
    "h2{margin-top:2.5rem;border-top:1px solid #ddd;padding-top:1rem}.method{color:#0a5}"
    "@media (prefers-color-scheme:dark){body{color:#ddd;background:#1b1b1b}pre{background:#272727}"
    "h2{border-color:#444}}"
)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


@router.get("/docs")
async def docs(request: Request) -> Response:
    """Every route, with its examples."""
    document = request.app.openapi()
    base = str(request.base_url).rstrip("/")
    parts = [part for path, operation in document["paths"].items() for part in _route(base, path, operation)]
    body = f"<h1>{escape(document['info']['title'])}</h1><p>{_prose(document['info']['description'])}</p>"
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Likewise</title><style>{_STYLE}</style>'
        f'<body>{body}<p><a href="/openapi.json">openapi.json</a></p>{"".join(parts)}</body></html>'
    )
    return Response(page, media_type="text/html", headers={"Content-Security-Policy": _POLICY})


def _route(base: str, path: str, operations: dict[str, Any]) -> Iterator[str]:
    for method, operation in operations.items():
        name = f'<span class="method">{method.upper()}</span> {escape(path)}'
        yield f'<h2 id="{escape(operation["operationId"])}"><code>{name}</code></h2>'
        yield f"<p>{_prose(operation.get('description', ''))}</p>"
        parameters = operation.get("parameters", ())
        if parameters:
            told = (f"<li><code>{escape(p['name'])}</code> ({p['in']}): {_prose(p.get('description', ''))}</li>"
                    for p in parameters)  # fmt: skip
            yield f"<ul>{''.join(told)}</ul>"
        for value in _requests(operation) or [None]:
            yield f"<pre>{escape(_curl(base, method.upper(), path, value))}</pre>"
        for kind, content in operation["responses"]["200"]["content"].items():
            shown = content.get("example")
            text = shown if kind != "application/json" else json.dumps(shown, indent=2, ensure_ascii=False)
            yield f"<pre>{escape(str(text))}</pre>"
        failures = sorted(status for status in operation["responses"] if status != "200")
        yield f"<p>Failures: {', '.join(failures)}</p>"


def _requests(operation: dict[str, Any]) -> list[Any]:
    """The bodies shown for an operation."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    return [example["value"] for example in content.get("examples", {}).values()]


def _curl(base: str, method: str, path: str, body: Any) -> str:
    line = f"curl {'' if method == 'GET' else f'-X {method} '}{base}{path.replace('{id}', '17')}"
    if body is None:
        return line
    return f"{line} -H 'Content-Type: application/json' \\\n  -d '{json.dumps(body, ensure_ascii=False)}'"


def _prose(text: str) -> str:
    parts = escape(text.replace("\n\n", " ")).split("`")
    return "".join(part if i % 2 == 0 else f"<code>{part}</code>" for i, part in enumerate(parts))
