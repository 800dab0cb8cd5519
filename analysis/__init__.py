"""Tables, figures and the report, made from the runs that MLflow holds."""
