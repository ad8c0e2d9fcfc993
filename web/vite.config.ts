import { defineConfig } from "vite";

export default defineConfig({
  build: {
    // The Rust build takes the page from here (media-server/build.rs).
    outDir: "dist",
    target: "es2023",
    // Everything is a file of its own: the server's content security policy knows no data: URLs.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // The page, and the API's reference.
    rolldownOptions: { input: ["index.html", "docs.html"] },
  },
  server: {
    // `npm run dev` beside a server that runs: `dragoman serve --development`.
    proxy: { "/v1": { target: "http://127.0.0.1:8080", ws: true } },
  },
});
