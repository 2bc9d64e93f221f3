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
