-- Small stand-ins that answer in this process (flow_models.py), so that the example needs no service and no key. A model behind a
-- service is the same statement with 'provider' = 'openai', 'anthropic', 'bedrock', .. in place of 'python'.
CREATE MODEL embedder INPUT (text STRING) OUTPUT (vector ARRAY<FLOAT>)
WITH ('provider' = 'python', 'task' = 'embedding', 'class' = 'flow_models:Embedder');

CREATE MODEL assistant INPUT (prompt STRING) OUTPUT (answer STRING)
WITH ('provider' = 'python', 'task' = 'text_generation', 'class' = 'flow_models:Assistant');

CREATE MODEL agent INPUT (prompt STRING) OUTPUT (reply STRING)
WITH ('provider' = 'python', 'task' = 'text_generation', 'class' = 'flow_models:Agent');

CREATE MODEL urgency INPUT (body STRING) OUTPUT (urgency DOUBLE)
WITH ('provider' = 'python', 'task' = 'regression', 'class' = 'flow_models:Urgency');

CREATE MODEL click INPUT (nearness DOUBLE, price DOUBLE) OUTPUT (click_probability DOUBLE)
WITH ('provider' = 'python', 'task' = 'regression', 'class' = 'flow_models:Click');

CREATE MODEL next_hour INPUT (sales DOUBLE, size DOUBLE) OUTPUT (expected DOUBLE)
WITH ('provider' = 'python', 'task' = 'regression', 'class' = 'flow_models:NextHour');
