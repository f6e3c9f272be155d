#!/bin/sh
# The same by HTTP: hand a job in, follow its events, fetch the picture. Needs a running server, curl and python3.
set -eu
url=${SAFELIGHT_URL:-http://127.0.0.1:8484}

field() { python3 -c "import json, sys; print(eval('json.load(sys.stdin)' + sys.argv[1]))" "$1"; }

job=$(curl -sf "$url/v1/jobs" -H 'Content-Type: application/json' \
  -d '{"operation": "image.generate", "prompt": "a boat on a lake", "steps": 12}' | field "['id']")
curl -sfN "$url/v1/jobs/$job/stream" | grep '^event:'
picture=$(curl -sf "$url/v1/jobs/$job" | field "['artifacts'][0]['url']")
curl -sf "$url$picture" -o boat.png
echo "boat.png"
