"""An environment that another machine serves."""
