// The microphone's level.

const FLOOR_DB = -60;

/** Loudness of samples within -1 to 1 as 0 (silence) to 1 (full scale), even to the ear. */
export function levelOf(samples: Float32Array): number {
  const energy = samples.reduce((sum, sample) => sum + sample * sample, 0);
  const rms = Math.sqrt(energy / Math.max(1, samples.length));
  const db = rms > 0 ? 20 * Math.log10(rms) : FLOOR_DB;
  return Math.min(1, Math.max(0, 1 - db / FLOOR_DB));
}

/** Reports a stream's level on every frame that is drawn, until it is stopped. */
export class Meter {
  readonly #context = new AudioContext();
  #frame = 0;

  constructor(stream: MediaStream, show: (level: number) => void) {
    const analyser = this.#context.createAnalyser();
    analyser.fftSize = 1024;
    this.#context.createMediaStreamSource(stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    let shown = 0;
    const draw = () => {
      analyser.getFloatTimeDomainData(samples);
      // It rises at once and falls slowly, so that an eye can follow.
      shown = Math.max(levelOf(samples), shown * 0.92);
      show(shown);
      this.#frame = requestAnimationFrame(draw);
    };
    draw();
  }

  stop(): void {
    cancelAnimationFrame(this.#frame);
    void this.#context.close();
  }
}
