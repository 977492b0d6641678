"""HTML templates of figures and pages."""

from __future__ import annotations

from functools import cache

import jinja2


@cache
def template(package: str, name: str) -> jinja2.Template:
    """Return a template of a package's folder `templates`; inserted values are escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=jinja2.select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
