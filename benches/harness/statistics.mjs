// Medians and what is known about them from few samples.

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * Bounds that hold the median of what the values are samples of with at least 95 % probability,
 * whatever its distribution: an order statistic from either end. With fewer than six values there
 * are none so narrow, and the bounds are the lowest and the highest value.
 */
export function bounds(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const rank = rankOf(sorted.length);
  return { low: sorted[rank], high: sorted.at(-1 - rank) };
}

/** How many values lie outside at either end: as many as a fair coin shows heads with 2.5 % at most. */
function rankOf(count) {
  let outside = 0;
  let probability = 0.5 ** count;
  for (let heads = 0; ; heads += 1) {
    outside += probability;
    if (outside > 0.025) return Math.max(heads - 1, 0);
    probability *= (count - heads) / (heads + 1);
  }
}
