// The microphone, as a call and a conference want it.

export async function openMicrophone(): Promise<MediaStream> {
  // Browsers hide it from pages that came over an open network.
  if (!navigator.mediaDevices) {
    throw new Error("the browser gives a microphone only to pages over https or on localhost");
  }
  return navigator.mediaDevices.getUserMedia({
    audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
  });
}
