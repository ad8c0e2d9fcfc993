// A link and the button that copies it.

const COPIED_MS = 2000;

export async function copy(link: HTMLInputElement, button: HTMLButtonElement): Promise<void> {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(link.value);
    button.textContent = "Copied";
  } catch {
    // No clipboard without a secure context: then by hand.
    link.select();
    button.textContent = "Press Ctrl+C";
  }
  setTimeout(() => {
    button.textContent = label;
  }, COPIED_MS);
}
