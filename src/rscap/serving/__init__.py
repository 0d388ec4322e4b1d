"""A server for captions: an API that the clients of OpenAI's speak, uploads, and a page to try it.

settings    where it listens and what it accepts
problems    what a client did wrong, or what the server cannot do, in OpenAI's shape
gate        every request passes it: id, host, origin, key, size and time of the body, log and metrics
models      the models by the name under which clients ask
scheduler   requests wait in turn and are captioned together
chat        what `/v1/chat/completions` takes and gives; uploads: `/caption`
images      an image out of a request, judged before it is decoded; fetching: from an address
scenes      `/scene`: a GeoTIFF to GeoJSON
pages       the page's files and its samples
metrics     numbers for Prometheus
app         the routes; running: the process, its sockets and its end
"""
