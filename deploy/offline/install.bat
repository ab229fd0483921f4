@echo off
rem Install Twinscope from the wheels in this folder, without a network: install.bat [FOLDER [PYTHON]]
setlocal
set "target=%~1"
if "%target%"=="" set "target=twinscope-venv"
set "python=%~2"
if "%python%"=="" set "python=py"
"%python%" -m venv "%target%" || exit /b 1
"%target%\Scripts\python" -m pip install --no-index --find-links "%~dp0." "twinscope[@EXTRAS@]" || exit /b 1
"%target%\Scripts\twinscope" doctor || exit /b 1
echo Installed. Run: "%target%\Scripts\twinscope" --help
