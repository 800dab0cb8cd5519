"""Tables, figures and the report, made from the runs that MLflow holds."""

import altub_exp  # noqa: F401  # Ctrl-C ends a command from here on
