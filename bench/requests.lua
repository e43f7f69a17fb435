-- What wrk asks for: users drawn evenly from the table, by a share of GETs among PUTs.
-- wrk ... -- USERS SEED SHARE; prints one line: requests, seconds, failures, p50 and p99 in microseconds.

local users, share
local headers = { ["Content-Type"] = "application/json" }

local function name(number)
    return (string.format("%07d", number):gsub("%d", function(digit) return string.char(digit:byte() + 49) end))
end

function init(arguments)
    users, share = tonumber(arguments[1]), tonumber(arguments[3])
    math.randomseed(tonumber(arguments[2]))
end

function request()
    local path = "/hello/" .. name(math.random(0, users - 1))
    if math.random() < share then
        return wrk.format("GET", path)
    end
    local body = string.format('{"dateOfBirth":"19%02d-0%d-11"}', math.random(10, 99), math.random(1, 9))
    return wrk.format("PUT", path, headers, body)
end

function done(summary, latency)
    local errors = summary.errors
    local failures = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    print(string.format("measured %d %f %d %d %d", summary.requests, summary.duration / 1e6, failures,
        latency:percentile(50), latency:percentile(99)))
end
