/**
 * Batch norm's moving statistics measured anew for given weights: the mean of the statistics of some batches ("precise batch
 * norm": Wu and Johnson, Rethinking "Batch" in BatchNorm, 2021).
 *
 * Moving averages follow weights that change a little from step to step. Where other workers change them in between, and go
 * on after this one has made its last step, the averages belong to weights that are gone.
 */

/**
 * @param statistics Where a training pass leaves moving averages; holds the means afterwards.
 * @param decay Their decay, less than 1: average = decay · average + (1 − decay) · batch.
 * @param batches How many passes, at least 1.
 * @param pass A forward pass in training mode over batch `i`, done when its promise is; weights must not change.
 */
export async function measureStatistics(
  statistics: Float32Array,
  decay: number,
  batches: number,
  pass: (i: number) => unknown,
): Promise<void> {
  const sums = new Float64Array(statistics.length);
  for (let batch = 0; batch < batches; batch++) {
    // From 0, one pass leaves (1 − decay) · batch.
    statistics.fill(0);
    await pass(batch);
    for (let i = 0; i < sums.length; i++) sums[i] = (sums[i] as number) + (statistics[i] as number);
  }
  for (let i = 0; i < sums.length; i++) statistics[i] = (sums[i] as number) / (batches * (1 - decay));
}
