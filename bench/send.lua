-- A durable send of about 220 bytes to one of 10,000 users, three priorities.
local priorities = { "high", "normal", "low" }
local padding = string.rep("x", 60)
math.randomseed(os.time())
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
function request()
  local user = math.random(1, 10000)
  local body = string.format(
    '{"conversation_id":%d,"sender_id":%d,"receiver_id":%d,"text":"Hello from the load generator %s","message_type":"text","priority":"%s","metadata":{"n":%d}}',
    user, user + 1, user, padding, priorities[user % 3 + 1], user)
  return wrk.format(nil, nil, nil, body)
end
-- The suite parses this line. wrk's own output is for people.
function done(summary, latency)
  local e = summary.errors
  io.write(string.format('suite: {"requests":%d,"us":%d,"errors":%d,"max_us":%d,"percentiles":[',
    summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout, latency.max))
  local separator = ''
  for _, p in ipairs({ 0.001, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99 }) do
    io.write(string.format('%s{"part":%g,"us":%d}', separator, p / 100, latency:percentile(p)))
    separator = ','
  end
  io.write(']}\n')
end
