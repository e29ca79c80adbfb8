// An input method (Japanese, Chinese, Korean, dead keys) ends a composition with Enter: that Enter is the method's, and nothing is sent by it.
// Safari ends the composition before it says that the key was pressed: there the key has the code 229, which stands for the method.
export default function () {
  if (window.neuronscopeComposing) return;
  window.neuronscopeComposing = true;
  window.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.isComposing || event.keyCode === 229)) event.stopImmediatePropagation();
  }, true);
}
