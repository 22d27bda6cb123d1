-- For redis_exporter (--script=contrib/exporter.lua): the figures of expcache, which it would drop.
--
-- A flat array of names and values. What INFO has as `expcache_hits_total:12` comes as `expcache_hits_total`, 12; the line of a type,
-- `expcache_type_trips:hits_total=12,…`, as `expcache_type_trips:hits_total`, 12, and so on. The exporter makes of each
-- a `redis_script_values{key="…"}`. Reads only, so it may also be run by EVAL_RO.

local result = {}

local function add(name, value)
  if tonumber(value) then
    result[#result + 1] = name
    result[#result + 1] = value
  end
end

for name, value in redis.call("INFO", "expcache"):gmatch("(expcache_[^:\r\n]+):([^\r\n]*)") do
  if name:sub(1, 14) == "expcache_type_" then
    for figure, of_type in value:gmatch("([%w_]+)=([^,]*)") do
      add(name .. ":" .. figure, of_type)
    end
  else
    add(name, value)
  end
end

return result
