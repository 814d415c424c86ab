from sketchknitter.cli import main

main()
