-- Settles what requests under one name reserved with what they used (`Bucket::settle` in
-- bucket.rs), and charges requests that were let in while this server was away.
--
-- KEYS: the name. ARGV: the replica, requests a minute, tokens a minute, tokens a day, answers at
-- once (0 for no limit); then requests to charge, tokens reserved, tokens used, answers that ended.
local MINUTE, DAY = 60000000, 86400000000
local KEPT = 90000

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local key, replica = KEYS[1], ARGV[1]
local n = {}
for i = 2, 9 do n[i] = tonumber(ARGV[i]) end
local requests, reserved, used, ended = n[6], n[7], n[8], n[9]

local values = {}
local function get(field)
    return tonumber(redis.call('HGET', key, field) or 0)
end
local function set(field, value)
    values[#values + 1] = field
    values[#values + 1] = string.format('%.2f', value)
end

if n[2] > 0 and requests > 0 then
    set('requests', math.max(get('requests'), now) + requests * MINUTE / n[2])
end

local function settle(field, limit, period)
    if limit == 0 or (reserved == 0 and used == 0) then return end
    local full, settled = get(field), get(field .. '_settled')
    local others = math.max(0, get(field .. '_reserved') - reserved)
    settled = math.max(settled, now) + used * period / limit
    if used > reserved then
        full = math.max(full, now) + (used - reserved) * period / limit
    else
        local given_back = full - (reserved - used) * period / limit
        full = math.max(given_back, math.min(settled + others * period / limit, full))
    end
    set(field, full)
    set(field .. '_settled', settled)
    set(field .. '_reserved', others)
end
settle('tokens', n[3], MINUTE)
settle('day', n[4], DAY)

if #values > 0 then
    redis.call('HSET', key, unpack(values))
    redis.call('EXPIRE', key, KEPT)
end
if n[5] > 0 and ended > 0 then
    redis.call('HINCRBY', key .. ':streams', replica, -ended)
end
return 0
