-- Sixteen requests at once.
init = function()
  local all = {}
  for at = 1, 16 do
    all[at] = wrk.format("GET", "/plaintext")
  end
  batch = table.concat(all)
end

request = function()
  return batch
end
